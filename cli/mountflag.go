// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/csv"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/mount"
)

// parseMount reads docker's --mount: fields of "key=value" or "key", as one line of CSV.
func parseMount(text string) (mount.Mount, error) {
	m := mount.Mount{Type: mount.TypeVolume}
	fields, err := csv.NewReader(strings.NewReader(text)).Read()
	if err != nil {
		return m, err
	}
	var bind mount.BindOptions
	var volume mount.VolumeOptions
	var tmpfs mount.TmpfsOptions
	var image mount.ImageOptions
	var driver mount.Driver
	used := map[mount.Type]string{} // the type that a field of its own belongs to
	for _, f := range fields {
		k, v, hasValue := strings.Cut(f, "=")
		on := !hasValue || v == "true" || v == "1"
		if kind, _, own := strings.Cut(k, "-"); own && k != "consistency" {
			used[mount.Type(kind)] = k
		}
		switch k {
		case "type":
			m.Type = mount.Type(v)
		case "source", "src":
			m.Source = v
		case "target", "destination", "dst":
			m.Target = v
		case "readonly", "ro":
			m.ReadOnly = on
		case "consistency": // means nothing on Linux
		case "bind-propagation":
			bind.Propagation = mount.Propagation(v)
		case "bind-nonrecursive":
			bind.NonRecursive = on
		case "bind-create-src":
			bind.CreateMountpoint = on
		case "bind-recursive":
			err = bindRecursive(v, &bind)
		case "volume-nocopy":
			volume.NoCopy = on
		case "volume-subpath":
			volume.Subpath = v
		case "volume-label":
			volume.Labels = withPair(volume.Labels, v)
		case "volume-driver":
			driver.Name = v
		case "volume-opt":
			driver.Options = withPair(driver.Options, v)
		case "image-subpath":
			image.Subpath = v
		case "tmpfs-size":
			tmpfs.SizeBytes, err = units.RAMInBytes(v)
		case "tmpfs-mode":
			var mode uint64
			mode, err = strconv.ParseUint(v, 8, 32)
			tmpfs.Mode = os.FileMode(mode)
		case "tmpfs-options":
			for o := range strings.SplitSeq(v, ",") {
				tmpfs.Options = append(tmpfs.Options, strings.SplitN(o, "=", 2))
			}
		default:
			return m, fmt.Errorf("unknown field %q; want type, source, target, readonly, or one of bind-…, volume-…, tmpfs-…, image-…", k)
		}
		if err != nil {
			return m, fmt.Errorf("%s: %w", k, err)
		}
	}
	for kind, field := range used {
		if kind != m.Type {
			return m, fmt.Errorf("field %s is not for type %s", field, m.Type)
		}
	}
	if m.Target == "" {
		return m, fmt.Errorf("target is missing")
	}
	if driver.Name != "" || driver.Options != nil {
		volume.DriverConfig = &driver
	}
	switch _, any := used[m.Type]; {
	case !any:
	case m.Type == mount.TypeBind:
		m.BindOptions = &bind
	case m.Type == mount.TypeVolume:
		m.VolumeOptions = &volume
	case m.Type == mount.TypeTmpfs:
		m.TmpfsOptions = &tmpfs
	case m.Type == mount.TypeImage:
		m.ImageOptions = &image
	}
	return m, nil
}

func bindRecursive(v string, o *mount.BindOptions) error {
	switch v {
	case "enabled":
	case "disabled":
		o.NonRecursive = true
	case "writable":
		o.ReadOnlyNonRecursive = true
	case "readonly":
		o.ReadOnlyForceRecursive = true
	default:
		return fmt.Errorf("%q is none of enabled, disabled, writable, readonly", v)
	}
	return nil
}

func withPair(m map[string]string, pair string) map[string]string {
	if m == nil {
		m = map[string]string{}
	}
	k, v, _ := strings.Cut(pair, "=")
	m[k] = v
	return m
}
