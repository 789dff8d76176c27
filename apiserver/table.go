// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/cache"
)

// tabler makes the tables that kubectl prints.
type tabler struct {
	encoder
	include metav1.IncludeObjectPolicy
	now     time.Time
	headed  bool // of a watch: the columns have been sent
}

func newTabler(c encoder, r *http.Request, now time.Time) (*tabler, error) {
	include := metav1.IncludeObjectPolicy(r.URL.Query().Get("includeObject"))
	switch include {
	case "":
		include = metav1.IncludeMetadata
	case metav1.IncludeNone, metav1.IncludeMetadata, metav1.IncludeObject:
	default:
		return nil, apierrors.NewBadRequest("includeObject: must be None, Metadata or Object")
	}
	c.m.as = ""
	return &tabler{encoder: c, include: include, now: now}, nil
}

// table shows entries, with the columns' definitions the first time.
func (t *tabler) table(entries []*cache.Entry, meta metav1.ListMeta) (*metav1.Table, error) {
	out := &metav1.Table{
		TypeMeta: metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "Table"},
		ListMeta: meta,
		Rows:     make([]metav1.TableRow, 0, len(entries)),
	}
	columns := columnsOf(t.t)
	if !t.headed {
		t.headed = true
		for _, c := range columns {
			out.ColumnDefinitions = append(out.ColumnDefinitions, metav1.TableColumnDefinition{
				Name: c.Name, Type: orString(c.Type), Format: c.Format, Description: c.Description, Priority: c.Priority,
			})
		}
	}
	for _, e := range entries {
		row := metav1.TableRow{Cells: make([]any, len(columns))}
		for i := range columns {
			row.Cells[i] = columns[i].Cell(&e.Object, t.now)
		}
		if err := t.object(&row, e); err != nil {
			return nil, err
		}
		out.Rows = append(out.Rows, row)
	}
	return out, nil
}

func (t *tabler) object(row *metav1.TableRow, e *cache.Entry) (err error) {
	switch t.include {
	case metav1.IncludeMetadata:
		part := t.encoder
		part.m.as = "PartialObjectMetadata"
		row.Object.Raw, err = part.raw(e)
	case metav1.IncludeObject:
		row.Object.Raw, err = t.raw(e)
	}
	return err
}

// columnsOf are the kind's own, or name and age.
func columnsOf(t *kinds.Type) []kinds.Column[kinds.Object] {
	if len(t.Columns) > 0 {
		return t.Columns
	}
	return []kinds.Column[kinds.Object]{
		{Name: "Name", Format: "name", Description: "Name of the object", Cell: func(o *kinds.Object, _ time.Time) any { return (*o).GetName() }},
		{Name: "Created At", Type: "date", Description: "When the object was created", Cell: func(o *kinds.Object, _ time.Time) any {
			return (*o).GetCreationTimestamp().UTC().Format(time.RFC3339)
		}},
	}
}

func orString(s string) string {
	if s == "" {
		return "string"
	}
	return s
}
