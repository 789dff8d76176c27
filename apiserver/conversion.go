// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/uuid"

	"github.com/knarr/knarr/apiserver/webhook"
	"github.com/knarr/knarr/internal/errs"
)

// convertWithin bounds one call, as upstream does.
const convertWithin = 30 * time.Second

// convert asks the webhook of a definition for objects in another version: a crd.Webhook. The server is a stranger, reached
// as package webhook reaches strangers; what it answers is checked by package crd.
func (s *Server) convert(ctx context.Context, crd *apiextensionsv1.CustomResourceDefinition, objs []map[string]any, desired string) ([]map[string]any, error) {
	conf := crd.Spec.Conversion.Webhook
	if conf == nil || conf.ClientConfig == nil {
		return nil, errs.New(errs.Invalid, "the definition names no webhook")
	}
	version, err := reviewVersion(conf.ConversionReviewVersions)
	if err != nil {
		return nil, err
	}
	ask := apiextensionsv1.ConversionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "apiextensions.k8s.io/" + version, Kind: "ConversionReview"},
		Request:  &apiextensionsv1.ConversionRequest{UID: uuid.NewUUID(), DesiredAPIVersion: desired},
	}
	for _, o := range objs {
		raw, err := json.Marshal(o)
		if err != nil {
			return nil, fmt.Errorf("encode an object: %w", err)
		}
		ask.Request.Objects = append(ask.Request.Objects, runtime.RawExtension{Raw: raw})
	}
	ctx, done := context.WithTimeout(ctx, convertWithin)
	defer done()
	var told apiextensionsv1.ConversionReview
	if err := s.webhooks.Post(ctx, conversionTarget(conf.ClientConfig), ask, &told); err != nil {
		return nil, err
	}
	return converted(ask.Request, &told, ask.APIVersion)
}

// converted reads an answer.
func converted(asked *apiextensionsv1.ConversionRequest, told *apiextensionsv1.ConversionReview, version string) ([]map[string]any, error) {
	res := told.Response
	switch {
	case told.APIVersion != version || told.Kind != "ConversionReview":
		return nil, fmt.Errorf("expected a ConversionReview of %s, got %s %s", version, told.APIVersion, told.Kind)
	case res == nil:
		return nil, fmt.Errorf("no response provided")
	case res.UID != asked.UID:
		return nil, fmt.Errorf("expected response.uid=%q, got %q", asked.UID, res.UID)
	case res.Result.Status != metav1.StatusSuccess && res.Result.Message != "":
		return nil, fmt.Errorf("%s", res.Result.Message)
	case res.Result.Status != metav1.StatusSuccess:
		return nil, fmt.Errorf("response.result.status was %q, not Success", res.Result.Status)
	case len(res.ConvertedObjects) != len(asked.Objects):
		return nil, fmt.Errorf("returned %d objects, expected %d", len(res.ConvertedObjects), len(asked.Objects))
	}
	out := make([]map[string]any, len(res.ConvertedObjects))
	for i, o := range res.ConvertedObjects {
		if err := utiljson.Unmarshal(o.Raw, &out[i]); err != nil || out[i] == nil {
			return nil, fmt.Errorf("object %d of the answer is no object", i)
		}
	}
	return out, nil
}

func reviewVersion(known []string) (string, error) {
	for _, v := range known {
		if v == "v1" || v == "v1beta1" { // of the same shape
			return v, nil
		}
	}
	return "", errs.New(errs.Unsupported, "the webhook understands no version of ConversionReview that is spoken here (v1, v1beta1)")
}

func conversionTarget(c *apiextensionsv1.WebhookClientConfig) webhook.Target {
	t := webhook.Target{CA: c.CABundle}
	if c.URL != nil {
		t.URL = *c.URL
		return t
	}
	if c.Service != nil {
		t.Namespace, t.Service = c.Service.Namespace, c.Service.Name
		if c.Service.Port != nil {
			t.Port = *c.Service.Port
		}
		if c.Service.Path != nil {
			t.Path = *c.Service.Path
		}
	}
	return t
}
