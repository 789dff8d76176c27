// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/knarr/knarr/kinds"
)

var (
	podType = kinds.For[corev1.Pod]()
	setType = kinds.For[appsv1.ReplicaSet]()
)

func ptr[T any](v T) *T { return &v }

func newQuantity(n int64) *resource.Quantity { return resource.NewQuantity(n, resource.BinarySI) }

func intOrString(name string) intstr.IntOrString { return intstr.FromString(name) }
