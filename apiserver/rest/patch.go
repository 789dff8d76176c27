// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
)

// Bounds of a JSON patch: a few thousand copy operations can make gigabytes of a small body.
const (
	maxPatchOps   = 10_000
	maxPatchBytes = 3 << 20 // of the result, and of what copies may add
)

func (c *Core) patch(ctx context.Context, r *Request) (Answer, error) {
	if err := checkPatch(r); err != nil {
		return Answer{}, err
	}
	return c.revise(ctx, r, func(old *cache.Entry) (decision, error) {
		obj, err := patched(r, old.Object, r.Version)
		if err != nil {
			return decision{}, err
		}
		if err := checkPlace(r, obj); err != nil {
			return decision{}, err
		}
		return c.replace(ctx, r, old, obj)
	})
}

func checkPatch(r *Request) error {
	if r.Type.Custom != nil && r.PatchType == types.StrategicMergePatchType {
		return unknownPatch(types.JSONPatchType, types.MergePatchType, types.ApplyPatchType)
	}
	if r.PatchType != types.JSONPatchType {
		return nil
	}
	var ops []json.RawMessage
	if err := json.Unmarshal(r.Patch, &ops); err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	if len(ops) > maxPatchOps {
		return apierrors.NewRequestEntityTooLargeError(fmt.Sprintf(
			"The allowed maximum operations in a JSON patch is %d, got %d", maxPatchOps, len(ops)))
	}
	return nil
}

// patched applies the request's patch to old in version v, and returns a new object of the hub.
func patched(r *Request, old kinds.Object, v *kinds.Version) (kinds.Object, error) {
	before, err := versionedJSON(old, v)
	if err != nil {
		return nil, err
	}
	after, err := patchJSON(before, r.Patch, r.PatchType, v.New())
	if err != nil {
		return nil, err
	}
	obj, err := DecodeHub(after, JSON, v, r.Validation, r.Warn)
	if err != nil {
		return nil, err
	}
	r.Type.Default(obj)
	return obj, nil
}

// patchJSON is the four patch formats on bytes. shape tells strategic merge how lists merge.
func patchJSON(before, patch []byte, how types.PatchType, shape any) (after []byte, err error) {
	switch how {
	case types.JSONPatchType:
		return applyJSONPatch(before, patch)
	case types.MergePatchType:
		if err = object(patch); err == nil {
			after, err = jsonpatch.MergePatch(before, patch)
		}
	case types.StrategicMergePatchType:
		if err = object(patch); err == nil {
			after, err = strategicpatch.StrategicMergePatch(before, patch, shape)
		}
	default:
		return nil, unknownPatch(types.JSONPatchType, types.MergePatchType, types.StrategicMergePatchType, types.ApplyPatchType)
	}
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return after, nil
}

func unknownPatch(known ...types.PatchType) error {
	var list []string
	for _, k := range known {
		list = append(list, string(k))
	}
	return apierrors.NewGenericServerResponse(415, "patch", noResource, "",
		"the body of the request was in an unknown format - accepted media types include: "+strings.Join(list, ", "), 0, true)
}

func object(patch []byte) error {
	if p := bytes.TrimLeft(patch, " \t\r\n"); len(p) == 0 || p[0] != '{' {
		return fmt.Errorf("a patch of this type must be a JSON object")
	}
	var probe map[string]json.RawMessage
	return json.Unmarshal(patch, &probe)
}

// limitCopies sets the library's own bound on what copy operations may add to an object.
var limitCopies = sync.OnceFunc(func() { jsonpatch.AccumulatedCopySizeLimit = maxPatchBytes })

func applyJSONPatch(before, patch []byte) ([]byte, error) {
	limitCopies()
	p, err := jsonpatch.DecodePatch(patch)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	after, err := p.Apply(before)
	if err != nil {
		return nil, apierrors.NewGenericServerResponse(422, "patch", noResource, "", err.Error(), 0, true)
	}
	if len(after) > maxPatchBytes {
		return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("the patched object would be larger than %d bytes", maxPatchBytes))
	}
	return after, nil
}

// patchInto applies the request's patch to a subresource's object.
func patchInto(now, want any, r *Request) error {
	before, err := json.Marshal(now)
	if err != nil {
		return err
	}
	after, err := patchJSON(before, r.Patch, r.PatchType, want)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(after, want); err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	return nil
}
