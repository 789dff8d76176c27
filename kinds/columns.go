// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
)

// What kubectl prints where there is nothing.
const (
	none    = "<none>"
	unknown = "<unknown>"
	unset   = "<unset>"
)

// wide is the priority of a column that only -o wide shows.
const wide = 1

// nameColumn and ageColumn open and close nearly every table.
func nameColumn[T any]() Column[T] {
	return Column[T]{
		Name: "Name", Format: "name", Description: "The name, unique among the objects of its kind in a namespace.",
		Cell: func(o *T, _ time.Time) any { return meta(o).GetName() },
	}
}

func ageColumn[T any]() Column[T] {
	return Column[T]{
		Name: "Age", Description: "How long ago the object was created.",
		Cell: func(o *T, now time.Time) any { return age(meta(o).GetCreationTimestamp().Time, now) },
	}
}

func meta[T any](o *T) metav1.Object { return any(o).(metav1.Object) }

func text[T any](name, description string, priority int32, cell func(*T) string) Column[T] {
	return Column[T]{Name: name, Description: description, Priority: priority, Cell: func(o *T, _ time.Time) any { return cell(o) }}
}

func number[T any](name, description string, cell func(*T) int64) Column[T] {
	return Column[T]{Name: name, Type: "integer", Description: description, Cell: func(o *T, _ time.Time) any { return cell(o) }}
}

// flag is a column of yes or no.
func flag[T any](name, description string, cell func(*T) bool) Column[T] {
	return Column[T]{Name: name, Type: "boolean", Description: description, Cell: func(o *T, _ time.Time) any { return cell(o) }}
}

// since is a column with how long ago something was, "<none>" for never.
func since[T any](name, description string, at func(*T) *metav1.Time) Column[T] {
	return Column[T]{Name: name, Description: description, Cell: func(o *T, now time.Time) any {
		if t := at(o); t != nil {
			return age(t.Time, now)
		}
		return none
	}}
}

// either reads an optional field.
func either[V any](p *V, without V) V {
	if p == nil {
		return without
	}
	return *p
}

// age is a time since, as people read it: 3m12s, 5d.
func age(t, now time.Time) string {
	if t.IsZero() {
		return unknown
	}
	return duration.HumanDuration(now.Sub(t))
}

func orNone(s string) string {
	if s == "" {
		return none
	}
	return s
}

// first3 joins at most three of many.
func first3(list []string) string {
	const most = 3
	if len(list) <= most {
		return strings.Join(list, ",")
	}
	return fmt.Sprintf("%s + %d more...", strings.Join(list[:most], ","), len(list)-most)
}

// templateColumns are what every owner of a pod template shows with -o wide.
func templateColumns[T any](spec func(*T) (*corev1.PodSpec, *metav1.LabelSelector)) []Column[T] {
	join := func(o *T, of func(*corev1.Container) string) string {
		s, _ := spec(o)
		list := make([]string, len(s.Containers))
		for i := range s.Containers {
			list[i] = of(&s.Containers[i])
		}
		return strings.Join(list, ",")
	}
	return []Column[T]{
		text("Containers", "Names of each container in the template.", wide, func(o *T) string {
			return join(o, func(c *corev1.Container) string { return c.Name })
		}),
		text("Images", "Images referenced by each container in the template.", wide, func(o *T) string {
			return join(o, func(c *corev1.Container) string { return c.Image })
		}),
		text("Selector", "The label selector of the pods.", wide, func(o *T) string {
			_, s := spec(o)
			return metav1.FormatLabelSelector(s)
		}),
	}
}
