// SPDX-License-Identifier: Apache-2.0

package cli

import "github.com/spf13/cobra"

// commands lists every command, in the order of the help text.
func (e *env) commands() []*cobra.Command {
	return []*cobra.Command{
		e.up(), e.join(), e.token(), e.down(), e.status(), e.kubectl(), e.undo(), e.stopAllCommand(), e.fsck(),
		e.run(), e.create(), e.exec(), e.attach(), e.ps(), e.logs(), e.inspect(), e.wait(),
		e.start(), e.stop(), e.restart(), e.kill(), e.pause(), e.unpause(), e.rename(), e.rm(), e.top(), e.stats(), e.port(), e.update(),
		e.diff(), e.commit(), e.cp(), e.export(),
		e.build(), e.builder(), e.images("images"), e.image(), e.pull(), e.push(), e.tag(), e.load(), e.save(), e.importCommand(), e.rmi("rmi"), e.history(),
		e.login(), e.logout(), e.search(),
		e.volume(), e.network(), e.events(), e.info(), e.versionCommand(),
	}
}
