// SPDX-License-Identifier: Apache-2.0

package scheduler

// filter says why a node cannot have a pod; nothing if it can. To add one: its file, and a line here.
type filter struct {
	name   string
	refuse func(n *Node, want *request) []string
}

// filters stand in the order of what people should be told first: the first that objects is the only one heard of a node.
var filters = [...]filter{
	{"NodeName", otherName},               // first: the pod asks for one node, nothing of the others matters
	{"NodeUnschedulable", unschedulable},  // nobody is to go there
	{"NodeAffinity", noAffinity},          // the pod does not want to go there, full or not
	{"TaintToleration", untolerated},      // the node is for others: it is not said to be full
	{"NodePorts", portsTaken},             // before resources: no more cpu makes a port free
	{"NodeResourcesFit", insufficient},    // what most pods wait for
	{"PodTopologySpread", tooUneven},      // last, the ones that depend on other pods: those may yet move
	{"InterPodAffinity", wrongNeighbours}, // the dearest to compute
}
