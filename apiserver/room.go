// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/knarr/knarr/kinds"
	"github.com/knarr/knarr/state/store"
)

// ShortOfRoom tells operators that the store begins to be short of room, or has enough again: in the log, and as an event
// of the namespace kube-system.
func (s *Server) ShortOfRoom(short bool, r store.Room) {
	reason, typ := "StorageHasRoom", corev1.EventTypeNormal
	text := fmt.Sprintf("the store has %d of %d MiB: there is room again", r.Size>>20, r.Quota>>20)
	if short {
		reason, typ = "StorageNearlyFull", corev1.EventTypeWarning
		text = fmt.Sprintf("the store has %d of %d MiB; history is cut short already. Delete what is not needed, or writes will be refused", r.Size>>20, r.Quota>>20)
		s.log.Warn(text)
	} else {
		s.log.Info(text)
	}
	e, ok := s.cache.Snapshot().Get(kinds.For[corev1.Namespace](), "", metav1.NamespaceSystem)
	if ok {
		s.events.For("apiserver", "").Event(e.Object, typ, reason, text)
	}
}

// room measures the store when asked.
type room struct {
	store              store.Roomy
	size, inUse, quota *prometheus.Desc
}

func newRoom(s store.Roomy) room {
	d := func(name, help string) *prometheus.Desc { return prometheus.NewDesc(name, help, nil, nil) }
	return room{s,
		d("apiserver_storage_size_bytes", "Size of the store's database."),
		d("knarr_storage_used_bytes", "Part of the store's database that is in use."),
		d("knarr_storage_quota_bytes", "Size at which the store refuses writes."),
	}
}

func (r room) Describe(ch chan<- *prometheus.Desc) { ch <- r.size; ch <- r.inUse; ch <- r.quota }

// Collect leaves out what cannot be known now; /livez says why.
func (r room) Collect(ch chan<- prometheus.Metric) {
	ctx, done := context.WithTimeout(context.Background(), time.Second) //house:allow context.Background: a collector is given none
	defer done()
	now, err := r.store.Room(ctx)
	if err != nil {
		return
	}
	for desc, v := range map[*prometheus.Desc]int64{r.size: now.Size, r.inUse: now.InUse, r.quota: now.Quota} {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(v))
	}
}
