"""The commands of ./lab, one file each."""
