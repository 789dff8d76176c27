// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/spf13/pflag"
)

// isolationFlags are those about namespaces and the runtime that few command lines use.
type isolationFlags struct {
	userns, domainname, runtime, isolation, gpus string
	deviceRules, annotations                     []string
}

func (c *isolationFlags) add(f *pflag.FlagSet) {
	f.StringVar(&c.userns, "userns", "", "host is the only one")
	f.StringVar(&c.domainname, "domainname", "", "NIS domain name")
	f.StringVar(&c.runtime, "runtime", "", "knarr is the only one")
	f.StringVar(&c.isolation, "isolation", "", "default is the only one")
	f.StringVar(&c.gpus, "gpus", "", "not supported: pass nodes with --device")
	f.StringArrayVar(&c.deviceRules, "device-cgroup-rule", nil, "devices it may use, like \"c 10:200 rwm\"")
	f.StringArrayVar(&c.annotations, "annotation", nil, "KEY=VALUE, for the runtime")
}

func (c *isolationFlags) setIsolation(o *client.ContainerCreateOptions) error {
	h := o.HostConfig
	o.Config.Domainname = c.domainname
	h.UsernsMode, h.Runtime, h.Isolation = container.UsernsMode(c.userns), c.runtime, container.Isolation(c.isolation)
	h.DeviceCgroupRules = c.deviceRules
	if c.gpus != "" {
		h.DeviceRequests = []container.DeviceRequest{{Capabilities: [][]string{{"gpu"}}}}
	}
	annotations, err := keyValues("--annotation", c.annotations)
	if len(annotations) > 0 {
		h.Annotations = annotations
	}
	return err
}
