// SPDX-License-Identifier: Apache-2.0

package container

const daemonEnv = "KNARR_CONTAINER_TEST_DAEMON"

func daemonMain() {}
