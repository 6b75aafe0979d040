<?xml version="1.0" encoding="UTF-8"?>
<!-- A lab machine: serial console into a file (the provider knows only pty and tcp), and nothing that boots slower for it. -->
<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform">
  <xsl:output method="xml" omit-xml-declaration="yes"/>

  <xsl:template match="@*|node()">
    <xsl:copy><xsl:apply-templates select="@*|node()"/></xsl:copy>
  </xsl:template>

  <xsl:template match="/domain/devices/graphics | /domain/devices/video | /domain/devices/channel"/>

  <xsl:template match="/domain/devices">
    <xsl:copy>
      <xsl:apply-templates select="@*|node()"/>
      <serial type="file">
        <source path="@CONSOLE@" append="on"/>
        <target port="0"/>
      </serial>
      <controller type="usb" model="none"/>
      <memballoon model="none"/>
    </xsl:copy>
  </xsl:template>
</xsl:stylesheet>
