// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"fmt"
)

func noAffinity(n *Node, want *request) []string {
	ok, err := want.affinity.Match(n.node)
	switch {
	case err != nil:
		return []string{fmt.Sprintf("node affinity that cannot be read: %v", err)}
	case !ok:
		return []string{"node(s) didn't match Pod's node affinity/selector"}
	}
	return nil
}

// preferred is the weight of the preferred terms that a node matches.
func preferred(fit []*Node, want *request, out []float64) {
	if want.preferred == nil {
		return
	}
	for i, n := range fit {
		out[i] = float64(want.preferred.Score(n.node))
	}
	most(out)
}
