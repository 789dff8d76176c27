// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"fmt"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

// instruction is how one kind of line is checked and run. To add one, write its file and add its line below.
type instruction struct {
	name  string                               // lower case, as Command.Name
	check func(cmd instructions.Command) error // what can be known without running; nil: nothing
	run   func(ctx context.Context, r *stageRun, s Step) error
}

// instructionList has every instruction but FROM, which starts a stage. It is a function because ONBUILD's check asks it again.
func instructionList() []instruction {
	return []instruction{
		{"add", checkAdd, runAdd},
		{"arg", nil, runArg},
		{"cmd", nil, runCmd},
		{"copy", checkCopy, runCopy},
		{"entrypoint", nil, runEntrypoint},
		{"env", nil, runEnv},
		{"expose", nil, runExpose},
		{"healthcheck", nil, runHealthcheck},
		{"label", nil, runLabel},
		{"maintainer", nil, runMaintainer},
		{"onbuild", checkOnbuild, runOnbuild},
		{"run", checkRun, runRun},
		{"shell", nil, runShell},
		{"stopsignal", nil, runStopSignal},
		{"user", nil, runUser},
		{"volume", nil, runVolume},
		{"workdir", nil, runWorkdir},
	}
}

func findInstruction(cmd instructions.Command) (instruction, error) {
	for _, i := range instructionList() {
		if i.name == strings.ToLower(cmd.Name()) {
			return i, nil
		}
	}
	return instruction{}, fmt.Errorf("%s is not supported", strings.ToUpper(cmd.Name()))
}

func checkInstruction(cmd instructions.Command) error {
	i, err := findInstruction(cmd)
	if err != nil || i.check == nil {
		return err
	}
	return i.check(cmd)
}
