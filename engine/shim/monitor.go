// SPDX-License-Identifier: Apache-2.0

package shim

// Monitor is the monitor process.
func Monitor() int { return 1 }
