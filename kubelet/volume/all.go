// SPDX-License-Identifier: Apache-2.0

package volume

// All lists the plugins; the first that handles a volume is it. The last takes what no other knows, and refuses it.
var All = []Plugin{
	EmptyDir{},
	HostPath{},
	ConfigMap{},
	Secret{},
	DownwardAPI{},
	Projected{},
	Unsupported{},
}
