// Command pulumi-resource-libvirt serves the Terraform provider for libvirt as a
// Pulumi plugin. It registers the resources of pulumi-libvirt 0.5.4 under the tokens
// that the Python SDK of that release uses, and carries no schema: SDKs are generated
// ahead of time and never ask for it.
package main

import (
	"github.com/dmacvicar/terraform-provider-libvirt/libvirt"
	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfbridge"
	shimv2 "github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfshim/sdk-v2"
	"github.com/pulumi/pulumi/sdk/v3/go/common/tokens"
)

const name = "libvirt"

// version is the release of the Python SDK that this plugin answers for; set by the linker.
var version = "0.0.0"

func token(file, member string) tokens.Type {
	return tokens.Type(name + ":index/" + file + ":" + member)
}

func main() {
	provider := shimv2.NewProvider(libvirt.Provider())
	tfbridge.Main(name, version, tfbridge.ProviderInfo{
		P:       provider,
		Name:    name,
		Version: version,
		Resources: map[string]*tfbridge.ResourceInfo{
			"libvirt_cloudinit_disk": {Tok: token("cloudInitDisk", "CloudInitDisk")},
			"libvirt_combustion":     {Tok: token("combustion", "Combustion")},
			"libvirt_domain":         {Tok: token("domain", "Domain")},
			"libvirt_ignition":       {Tok: token("ignition", "Ignition")},
			"libvirt_network":        {Tok: token("network", "Network")},
			"libvirt_pool":           {Tok: token("pool", "Pool")},
			"libvirt_volume":         {Tok: token("volume", "Volume")},
		},
	}, nil)
}
