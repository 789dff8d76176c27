// SPDX-License-Identifier: Apache-2.0

package kinds

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	eventsv1beta1 "k8s.io/api/events/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Event is core/v1 Event, served as events.k8s.io/v1 too; both are the same stored object, as upstream.
var Event = Kind[corev1.Event]{
	Version: "v1", Name: "Event", Plural: "events", Short: []string{"ev"},
	NoGeneration:   true,
	ValidateName:   pathSegment,
	Validate:       validateEvent,
	ValidateUpdate: validateEventUpdate,
	Columns:        eventColumns,
	Fields:         eventFields,
	Served: []Served[corev1.Event]{
		Via("events.k8s.io", "v1", eventToHub, eventFromHub),
		Via("events.k8s.io", "v1beta1", func(in *eventsv1beta1.Event, out *corev1.Event) {
			var mid eventsv1.Event
			copyAlike(reflect.ValueOf(&mid).Elem(), reflect.ValueOf(in).Elem())
			eventToHub(&mid, out)
		}, func(in *corev1.Event, out *eventsv1beta1.Event) {
			var mid eventsv1.Event
			eventFromHub(in, &mid)
			copyAlike(reflect.ValueOf(out).Elem(), reflect.ValueOf(&mid).Elem())
		}),
	},
}

// validateEvent: an event with an eventTime is of the new kind and must say who reports what was done.
func validateEvent(e *corev1.Event) field.ErrorList {
	f := &faults{}
	if ns := e.InvolvedObject.Namespace; ns != e.Namespace && (ns != "" || e.Namespace != metav1.NamespaceDefault) {
		f.invalid(field.NewPath("involvedObject", "namespace"), ns, "does not match event.namespace")
	}
	if e.EventTime.IsZero() {
		return f.list
	}
	if f.need(field.NewPath("reportingController"), e.ReportingController) {
		f.each(field.NewPath("reportingController"), e.ReportingController, validation.IsQualifiedName(e.ReportingController))
	}
	for _, c := range []struct {
		name, value string
		most        int
	}{{"reportingInstance", e.ReportingInstance, 128}, {"action", e.Action, 128}, {"reason", e.Reason, 128}} {
		f.need(field.NewPath(c.name), c.value)
		if len(c.value) > c.most {
			f.invalid(field.NewPath(c.name), "", fmt.Sprintf("can have at most %d characters", c.most))
		}
	}
	if len(e.Message) > 1024 {
		f.invalid(field.NewPath("message"), "", "can have at most 1024 characters")
	}
	return f.list
}

// validateEventUpdate: of a new-style event only the series grows.
func validateEventUpdate(new, old *corev1.Event) field.ErrorList {
	f := &faults{}
	if new.EventTime.IsZero() && old.EventTime.IsZero() {
		return nil
	}
	f.immutable(field.NewPath("involvedObject"), new.InvolvedObject, old.InvolvedObject)
	f.immutable(field.NewPath("reason"), new.Reason, old.Reason)
	f.immutable(field.NewPath("message"), new.Message, old.Message)
	f.immutable(field.NewPath("type"), new.Type, old.Type)
	f.immutable(field.NewPath("eventTime"), new.EventTime, old.EventTime)
	f.immutable(field.NewPath("action"), new.Action, old.Action)
	f.immutable(field.NewPath("related"), new.Related, old.Related)
	f.immutable(field.NewPath("reportingController"), new.ReportingController, old.ReportingController)
	f.immutable(field.NewPath("reportingInstance"), new.ReportingInstance, old.ReportingInstance)
	return f.list
}

// eventFields has the names of both served versions.
func eventFields(e *corev1.Event) fields.Set {
	source := e.Source.Component
	if source == "" {
		source = e.ReportingController
	}
	set := fields.Set{
		"reason": e.Reason, "type": e.Type, "source": source,
		"reportingComponent": e.ReportingController, "reportingController": e.ReportingController,
	}
	o := &e.InvolvedObject
	for _, object := range []string{"involvedObject", "regarding"} {
		set[object+".kind"] = o.Kind
		set[object+".namespace"] = o.Namespace
		set[object+".name"] = o.Name
		set[object+".uid"] = string(o.UID)
		set[object+".apiVersion"] = o.APIVersion
		set[object+".resourceVersion"] = o.ResourceVersion
		set[object+".fieldPath"] = o.FieldPath
	}
	return set
}

var eventColumns = []Column[corev1.Event]{
	{Name: "Last Seen", Description: "When it happened last.", Cell: func(e *corev1.Event, now time.Time) any { return age(lastSeen(e), now) }},
	text("Type", "Normal or Warning.", 0, func(e *corev1.Event) string { return e.Type }),
	text("Reason", "Why, in one word.", 0, func(e *corev1.Event) string { return e.Reason }),
	text("Object", "What it is about.", 0, func(e *corev1.Event) string {
		kind := strings.ToLower(e.InvolvedObject.Kind)
		if e.InvolvedObject.Name == "" {
			return kind
		}
		return kind + "/" + e.InvolvedObject.Name
	}),
	text("Subobject", "Which part of it.", wide, func(e *corev1.Event) string { return e.InvolvedObject.FieldPath }),
	text("Source", "Who says so.", wide, eventSource),
	text("Message", "What happened.", 0, func(e *corev1.Event) string { return strings.TrimSpace(e.Message) }),
	{Name: "First Seen", Priority: wide, Description: "When it happened first.", Cell: func(e *corev1.Event, now time.Time) any { return age(firstSeen(e), now) }},
	{Name: "Count", Type: "integer", Priority: wide, Description: "How often it happened.", Cell: func(e *corev1.Event, _ time.Time) any { return eventCount(e) }},
	{Name: "Name", Format: "name", Priority: wide, Description: "The event's own name.", Cell: func(e *corev1.Event, _ time.Time) any { return e.Name }},
}

func firstSeen(e *corev1.Event) time.Time {
	if e.FirstTimestamp.IsZero() {
		return e.EventTime.Time
	}
	return e.FirstTimestamp.Time
}

func lastSeen(e *corev1.Event) time.Time {
	switch {
	case e.Series != nil:
		return e.Series.LastObservedTime.Time
	case e.LastTimestamp.IsZero():
		return firstSeen(e)
	}
	return e.LastTimestamp.Time
}

func eventCount(e *corev1.Event) int64 {
	switch {
	case e.Series != nil:
		return int64(e.Series.Count)
	case e.Count == 0:
		return 1
	}
	return int64(e.Count)
}

func eventSource(e *corev1.Event) string {
	component, host := e.Source.Component, e.Source.Host
	if component == "" {
		component = e.ReportingController
	}
	if host == "" {
		host = e.ReportingInstance
	}
	if host == "" {
		return component
	}
	return component + ", " + host
}

func eventToHub(in *eventsv1.Event, out *corev1.Event) {
	*out = corev1.Event{
		ObjectMeta:          in.ObjectMeta,
		InvolvedObject:      in.Regarding,
		Reason:              in.Reason,
		Message:             in.Note,
		Source:              in.DeprecatedSource,
		FirstTimestamp:      in.DeprecatedFirstTimestamp,
		LastTimestamp:       in.DeprecatedLastTimestamp,
		Count:               in.DeprecatedCount,
		Type:                in.Type,
		EventTime:           in.EventTime,
		Action:              in.Action,
		Related:             in.Related,
		ReportingController: in.ReportingController,
		ReportingInstance:   in.ReportingInstance,
	}
	if s := in.Series; s != nil {
		out.Series = &corev1.EventSeries{Count: s.Count, LastObservedTime: s.LastObservedTime}
	}
}

func eventFromHub(in *corev1.Event, out *eventsv1.Event) {
	*out = eventsv1.Event{
		ObjectMeta:               in.ObjectMeta,
		Regarding:                in.InvolvedObject,
		Reason:                   in.Reason,
		Note:                     in.Message,
		DeprecatedSource:         in.Source,
		DeprecatedFirstTimestamp: in.FirstTimestamp,
		DeprecatedLastTimestamp:  in.LastTimestamp,
		DeprecatedCount:          in.Count,
		Type:                     in.Type,
		EventTime:                in.EventTime,
		Action:                   in.Action,
		Related:                  in.Related,
		ReportingController:      in.ReportingController,
		ReportingInstance:        in.ReportingInstance,
	}
	if s := in.Series; s != nil {
		out.Series = &eventsv1.EventSeries{Count: s.Count, LastObservedTime: s.LastObservedTime}
	}
}
