// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

func runEnv(ctx context.Context, r *stageRun, s Step) error {
	var words []string
	for _, kv := range s.Cmd.(*instructions.EnvCommand).Env {
		r.cfg.Config.Env = setEnv(r.cfg.Config.Env, kv.Key, kv.Value)
		words = append(words, kv.Key+"="+kv.Value)
	}
	return r.metadata(ctx, "ENV "+strings.Join(words, " "))
}

func setEnv(env []string, key, value string) []string {
	for i, kv := range env {
		if strings.HasPrefix(kv, key+"=") {
			env[i] = key + "=" + value
			return env
		}
	}
	return append(env, key+"="+value)
}

// runArg declares build arguments: the request's value, else the line's, else that of the ARG before the first FROM.
func runArg(ctx context.Context, r *stageRun, s Step) error {
	var words []string
	for _, kv := range s.Cmd.(*instructions.ArgCommand).Args {
		word := kv.Key
		if kv.Value != nil {
			word += "=" + *kv.Value
		}
		words = append(words, word)
		r.e.use(kv.Key)
		if v, ok := r.argValue(kv); ok {
			r.args[kv.Key] = v
		}
	}
	return r.metadata(ctx, "ARG "+strings.Join(words, " "))
}

func (r *stageRun) argValue(kv instructions.KeyValuePairOptional) (string, bool) {
	if v, ok := r.e.req.Args[kv.Key]; ok {
		return v, true
	}
	if kv.Value != nil {
		return *kv.Value, true
	}
	if v, ok := r.e.graph.MetaArgs[kv.Key]; ok {
		return v, true
	}
	v, ok := platformArgs(r.e.targetPlatform(), hostPlatform())[kv.Key]
	return v, ok
}

func runLabel(ctx context.Context, r *stageRun, s Step) error {
	m := map[string]string{}
	for _, kv := range s.Cmd.(*instructions.LabelCommand).Labels {
		m[kv.Key] = kv.Value
	}
	return r.labels(ctx, m)
}

// labels adds labels in one step, those of the request too.
func (r *stageRun) labels(ctx context.Context, m map[string]string) error {
	if r.cfg.Config.Labels == nil {
		r.cfg.Config.Labels = map[string]string{}
	}
	var words []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		r.cfg.Config.Labels[k] = m[k]
		words = append(words, fmt.Sprintf("%s=%q", k, m[k]))
	}
	return r.metadata(ctx, "LABEL "+strings.Join(words, " "))
}

func runMaintainer(ctx context.Context, r *stageRun, s Step) error {
	r.cfg.Author = s.Cmd.(*instructions.MaintainerCommand).Maintainer
	return r.metadata(ctx, "MAINTAINER "+r.cfg.Author)
}
