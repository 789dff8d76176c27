// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/client"
)

// sources fill volumes and environments from one snapshot.
type sources struct {
	k    *Kubelet
	snap *cache.Snapshot
}

func (k *Kubelet) sources() sources { return sources{k, k.cache.Snapshot()} }

func (s sources) ConfigMap(namespace, name string) (*corev1.ConfigMap, bool) {
	return cache.Get[corev1.ConfigMap](s.snap, namespace, name)
}

func (s sources) Secret(namespace, name string) (*corev1.Secret, bool) {
	return cache.Get[corev1.Secret](s.snap, namespace, name)
}

func (s sources) Services(namespace string) iter.Seq[*corev1.Service] {
	return cache.List[corev1.Service](s.snap, namespace)
}

func (s sources) Allocatable() corev1.ResourceList { return s.k.view.Allocatable }

func (s sources) Token(ctx context.Context, pod *corev1.Pod, audience string, seconds int64) (string, time.Time, error) {
	return s.k.tokens.get(ctx, pod, audience, seconds)
}

// tokens are those of pods' service accounts: asked for once, and again when four fifths of their time have passed.
type tokens struct {
	do   client.Doer
	mu   sync.Mutex // guards have
	have map[tokenKey]token
}

type tokenKey struct {
	pod      types.UID
	audience string
	seconds  int64
}

type token struct {
	value        string
	again, ended time.Time
}

func (t *tokens) get(ctx context.Context, pod *corev1.Pod, audience string, seconds int64) (string, time.Time, error) {
	key, now := tokenKey{pod.UID, audience, seconds}, time.Now()
	t.mu.Lock()
	old, ok := t.have[key]
	t.mu.Unlock()
	if ok && now.Before(old.again) {
		return old.value, old.again, nil
	}
	fresh, err := t.request(ctx, pod, audience, seconds, now)
	if err != nil {
		if ok && now.Before(old.ended) {
			return old.value, now.Add(10 * time.Second), nil // still good; ask again soon
		}
		return "", time.Time{}, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, v := range t.have {
		if now.After(v.ended) {
			delete(t.have, k)
		}
	}
	t.have[key] = fresh
	return fresh.value, fresh.again, nil
}

func (t *tokens) request(ctx context.Context, pod *corev1.Pod, audience string, seconds int64, now time.Time) (token, error) {
	account := pod.Spec.ServiceAccountName
	if account == "" {
		account = "default"
	}
	req := &authenticationv1.TokenRequest{
		ObjectMeta: metav1.ObjectMeta{Name: account, Namespace: pod.Namespace},
		Spec: authenticationv1.TokenRequestSpec{
			ExpirationSeconds: &seconds,
			BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
		},
	}
	if audience != "" {
		req.Spec.Audiences = []string{audience}
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	obj, err := t.do.Do(ctx, client.Request{Verb: client.Create, Type: kinds.For[corev1.ServiceAccount](), Namespace: pod.Namespace,
		Name: account, Subresource: "token", Object: req})
	if err != nil {
		return token{}, err
	}
	out, ok := obj.(*authenticationv1.TokenRequest)
	if !ok || out.Status.Token == "" {
		return token{}, fmt.Errorf("ask for a token of service account %s/%s: the answer has none", pod.Namespace, account)
	}
	life := out.Status.ExpirationTimestamp.Sub(now)
	return token{out.Status.Token, now.Add(min(life*4/5, 24*time.Hour)), now.Add(life)}, nil
}
