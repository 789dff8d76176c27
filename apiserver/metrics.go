// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/knarr/knarr/apiserver/rest"
	"github.com/knarr/knarr/state/cache"
	"github.com/knarr/knarr/state/store"
)

// metrics are the server's own, under Kubernetes' names, so that known dashboards work.
type metrics struct {
	handler  http.Handler
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	watchers *prometheus.GaugeVec
}

func newMetrics(c *cache.Cache, s store.Store) *metrics {
	r := prometheus.NewRegistry()
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "apiserver_request_total", Help: "Requests by verb, resource and code.",
		}, []string{"verb", "group", "version", "resource", "subresource", "scope", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "apiserver_request_duration_seconds", Help: "Time to answer, without watches.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5, 30},
		}, []string{"verb", "group", "version", "resource", "subresource", "scope"}),
		watchers: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "apiserver_registered_watchers", Help: "Open watches by kind.",
		}, []string{"group", "version", "kind"}),
	}
	r.MustRegister(m.requests, m.duration, m.watchers, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), objects{c, prometheus.NewDesc(
			"apiserver_storage_objects", "Stored objects by resource.", []string{"resource"}, nil)})
	if s, ok := s.(store.Roomy); ok {
		r.MustRegister(newRoom(s))
	}
	m.handler = promhttp.HandlerFor(r, promhttp.HandlerOpts{})
	return m
}

// verbs bounds what a client can write into a label.
var verbs = map[string]string{
	"get": "GET", "list": "LIST", "watch": "WATCH", "create": "POST", "update": "PUT", "patch": "PATCH", "delete": "DELETE",
	"deletecollection": "DELETECOLLECTION", "post": "POST", "put": "PUT",
}

func (m *metrics) observe(rt route, r *http.Request, code int, took time.Duration) {
	verb, known := verbs[rt.verb]
	if !known {
		verb = "OTHER"
	}
	if connects, _ := rest.Connecting(rt.subresource); connects && rt.subresource != "log" {
		verb = "CONNECT"
	}
	scope := "cluster"
	switch {
	case rt.name != "":
		scope = "resource"
	case rt.namespace != "":
		scope = "namespace"
	}
	gvr, sub := rt.gvr, rt.subresource
	if code == http.StatusNotFound || code == http.StatusUnauthorized || code == http.StatusForbidden || !rt.resource() {
		gvr.Group, gvr.Version, gvr.Resource, sub = "", "", "", "" // names that do not exist must not become labels
	}
	if code == 0 {
		code = http.StatusOK
	}
	m.requests.WithLabelValues(verb, gvr.Group, gvr.Version, gvr.Resource, sub, scope, strconv.Itoa(code)).Inc()
	if !rt.longRunning() {
		m.duration.WithLabelValues(verb, gvr.Group, gvr.Version, gvr.Resource, sub, scope).Observe(took.Seconds())
	}
}

// objects counts what the cache holds, when asked.
type objects struct {
	cache *cache.Cache
	desc  *prometheus.Desc
}

func (o objects) Describe(ch chan<- *prometheus.Desc) { ch <- o.desc }

func (o objects) Collect(ch chan<- prometheus.Metric) {
	s := o.cache.Snapshot()
	for _, t := range s.Types() {
		ch <- prometheus.MustNewConstMetric(o.desc, prometheus.GaugeValue, float64(s.Len(t)), t.Resource().GroupResource().String())
	}
}
