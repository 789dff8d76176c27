// SPDX-License-Identifier: Apache-2.0

package build

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/knarr/knarr/internal/errs"
)

func compile(t *testing.T, text string, a Args) (Graph, error) {
	t.Helper()
	return Compile([]byte(text), a)
}

func TestCompileNeeds(t *testing.T) {
	const file = `ARG base=scratch
FROM busybox AS tools
RUN make
FROM $base AS lonely
COPY a /
FROM tools AS build
COPY b /
FROM ${base}
COPY --from=build /b /
COPY --from=nginx:1.8 /etc /etc
COPY --from=0 /x /
`
	for target, want := range map[string]string{"": "[0 2 3]", "lonely": "[1]", "BUILD": "[0 2]", "0": "[0]", "3": "[0 2 3]"} {
		g, err := compile(t, file, Args{Target: target})
		if err != nil || fmt.Sprint(g.Needed) != want {
			t.Errorf("target %q: %v %v, want %s", target, g.Needed, err, want)
		}
	}
	g, err := compile(t, file, Args{Build: map[string]string{"base": "debian:12"}})
	if err != nil || g.Stages[3].Base.Image != "debian:12" || g.Stages[2].Base.Stage != 0 || g.Count() != 8 {
		t.Errorf("%+v %v %d", g.Stages, err, g.Count())
	}
	if c := g.Stages[3].Steps; c[0].From.Stage != 2 || c[1].From.Image != "nginx:1.8" || c[2].From.Stage != 0 {
		t.Errorf("%+v %+v %+v", c[0].From, c[1].From, c[2].From)
	}
}

// Every fault is reported at once, each with its place and its line.
func TestCompileFaults(t *testing.T) {
	_, err := compile(t, `FROM scratch
CPOY a /b
COPY onlyone
ENV
RUN --mount=type=cash,target=/x --security=insecure make
COPY a b c
COPY --from=7 a /
RUN --mount=from=9,target=/x y
EXPOSE
COPY --nope a /
`, Args{})
	if !errors.Is(err, errs.Invalid) {
		t.Fatal(err)
	}
	for _, want := range []string{
		"Dockerfile:2: unknown instruction: CPOY (did you mean COPY?)\n    1 |     FROM scratch\n    2 | >>> CPOY a /b\n    3 |     COPY onlyone\n    4 |     ENV\n",
		"Dockerfile:3: COPY requires at least two arguments",
		"Dockerfile:4: ENV requires at least one argument",
		"Dockerfile:5: RUN --security=insecure is not supported",
		"Dockerfile:6: when using COPY with more than one source file, the destination must be a directory and end with a /",
		"Dockerfile:7: COPY --from=7: no earlier stage has this index",
		"Dockerfile:8: RUN --mount from=9: no earlier stage has this index",
		"Dockerfile:9: EXPOSE requires at least one argument",
		"Dockerfile:10: unknown flag: --nope",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in:\n%v", want, err)
		}
	}
}

func TestCompileSingleFaults(t *testing.T) {
	for text, want := range map[string]string{
		"":                                    "Dockerfile: file with no instructions",
		"# nothing\n":                         "Dockerfile:1: file with no instructions",
		"ARG a\n":                             "Dockerfile: no FROM",
		"RUN x\nFROM scratch\n":               "Dockerfile:1: RUN before FROM",
		"FROM $nothing\n":                     "Dockerfile:1: base name ($nothing) should not be blank",
		"FROM a AS 1x\n":                      "Dockerfile:1: invalid name for build stage",
		"FROM a AS x\nCOPY --from=x a b":      "Dockerfile:2: COPY --from=x: a stage cannot copy from itself",
		"FROM a\nCOPY --from=scratch a b":     "Dockerfile:2: COPY --from=scratch",
		"FROM a\nONBUILD FROM b\n":            "Dockerfile:2: FROM isn't allowed as an ONBUILD trigger",
		"FROM a\nONBUILD ONBUILD RUN\n":       "Dockerfile:2: Chaining ONBUILD",
		"FROM a b\n":                          "Dockerfile:1: FROM requires either one or three arguments",
		"FROM a\nRUN --security=insecure x\n": "Dockerfile:2: RUN --security=insecure is not supported",
		"FROM a\nENV x=${y:?missing}\nHEALTHCHECK WHAT\n": "Dockerfile:3: ",
	} {
		_, err := compile(t, text, Args{})
		if !errors.Is(err, errs.Invalid) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	if _, err := compile(t, "FROM a\n", Args{Target: "nope"}); err == nil || !strings.Contains(err.Error(), `target stage "nope" could not be found`) {
		t.Error(err)
	}
}

func TestPlatformArgs(t *testing.T) {
	g, err := compile(t, "FROM --platform=$BUILDPLATFORM base-$TARGETARCH\n", Args{TargetPlatform: "linux/arm64", BuildPlatform: "linux/amd64"})
	if err != nil || g.Stages[0].Platform != "linux/amd64" || g.Stages[0].Base.Image != "base-arm64" {
		t.Errorf("%+v %v", g.Stages[0], err)
	}
}

// A base image's trigger is a stranger's text: none may end the daemon.
func TestHostileTriggers(t *testing.T) {
	for _, text := range []string{"# check=skip=all\nRUN x", "#check=error=true\nCOPY a b", "FROM x", "", "\n\n", "ONBUILD RUN x", "RUN a\nRUN b", "RUN <<E\nx\nE"} {
		cmd, err := parseTrigger(text)
		t.Log(cmd, err)
	}
	if _, err := compile(t, "# check=skip=JSONArgsRecommended\nFROM scratch\n# check=skip=all\nCMD x\n", Args{}); err != nil {
		t.Error(err)
	}
	g, err := compile(t, "FROM scratch as X\nCMD x\nCMD y\nWORKDIR rel\nENV k v\nENV API_TOKEN=1\nrun x\nMAINTAINER m\n", Args{})
	var rules []string
	for _, a := range g.Advice {
		rules = append(rules, fmt.Sprintf("%d:%s", a.Line, a.Rule))
	}
	if want := "1:StageNameCasing 1:FromAsCasing 2:JSONArgsRecommended 3:MultipleInstructionsDisallowed 3:JSONArgsRecommended 4:WorkdirRelativePath 5:LegacyKeyValueFormat 6:SecretsUsedInArgOrEnv 8:MaintainerDeprecated 7:ConsistentInstructionCasing"; err != nil || strings.Join(rules, " ") != want {
		t.Errorf("%v\n%s\nwant\n%s", err, strings.Join(rules, " "), want)
	}
	if _, err := compile(t, "# check=error=true\nFROM scratch\nCMD x\n", Args{}); err == nil || !strings.Contains(err.Error(), "JSONArgsRecommended") {
		t.Error(err)
	}
}

func FuzzTrigger(f *testing.F) {
	f.Add("# check=skip=all\nRUN x")
	f.Fuzz(func(t *testing.T, text string) { parseTrigger(text) })
}

func FuzzCompile(f *testing.F) {
	f.Add("FROM scratch\nCOPY a /\n")
	f.Add("# escape=`\nARG x=1\nFROM a$x AS b\nRUN <<EOF\nx\nEOF\nONBUILD COPY --from=b a b\n")
	f.Fuzz(func(t *testing.T, text string) {
		g, err := Compile([]byte(text), Args{})
		if err == nil && (len(g.Needed) == 0 || g.Count() < 1) {
			t.Fatal("no error and nothing to do")
		}
	})
}
