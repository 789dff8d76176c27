// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientrest "k8s.io/client-go/rest"

	"github.com/knarr/knarr/apiserver/apiservertest"
)

// protoPod is a Pod as protobuf whose memory request is text, which need not be a quantity.
func protoPod(t *testing.T, text string) []byte {
	t.Helper()
	field := func(number byte, value []byte) []byte {
		out := []byte{number<<3 | 2}
		n := len(value)
		for ; n >= 0x80; n >>= 7 {
			out = append(out, byte(n)|0x80)
		}
		return append(append(out, byte(n)), value...)
	}
	entry := append(field(1, []byte("memory")), field(2, field(1, []byte(text)))...)
	container := append(field(1, []byte("c")), field(8, field(2, entry))...)
	raw := append(field(1, field(1, []byte("12e45678"))), field(2, field(2, container))...)
	b, err := (&runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: "v1", Kind: "Pod"}, Raw: raw}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte("k8s\x00"), b...)
}

// Rows 31 to 33: small bodies that are meant to cost much are refused at once, in every format and by every way in.
func TestBombs(t *testing.T) {
	s := apiservertest.New(t)
	s.Account(t, "default")
	cs := clientset(t, s)
	if _, err := cs.CoreV1().Pods("default").Create(t.Context(), pod("p"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	h, err := clientrest.HTTPClientFor(config(t, s))
	if err != nil {
		t.Fatal(err)
	}
	const pods, hpas = "/api/v1/namespaces/default/pods", "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers"
	asJSON := func(q string) string {
		return `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x"},"spec":{"containers":[{"name":"c","image":"i","resources":{"limits":{"memory":` + q + `}}}]}}`
	}
	const huge = "1e-99999999"
	wide := "{" + strings.Repeat(`"l":"`+strings.Repeat("x", 60)+`",`, 40_000) + `"z":""}`
	labels := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `"l%d":"v",`, i)
		}
		return `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"flood","labels":{` + b.String() + `"z":"z"}}}`
	}
	var aliases strings.Builder
	aliases.WriteString("a0: &a0 [x,x,x,x,x,x,x,x,x]\n")
	for i := range 12 {
		fmt.Fprintf(&aliases, "a%d: &a%d [%s]\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i), 9), ","))
	}
	doubling := `[{"op":"add","path":"/metadata/annotations","value":{"a":"` + strings.Repeat("x", 1<<16) + `"}}`
	for i := range 40 {
		doubling += fmt.Sprintf(`,{"op":"copy","from":"/metadata","path":"/metadata/x%d"}`, i)
	}
	harmless := map[string]bool{"label flood": true, "an annotation's quantity": true} // taken, but quickly
	for name, c := range map[string]struct{ method, path, typ, body string }{
		"quantity, JSON":            {"POST", pods, "application/json", asJSON(`"` + huge + `"`)},
		"quantity, a JSON number":   {"POST", pods, "application/json", asJSON(huge)},
		"quantity, positive":        {"POST", pods, "application/json", asJSON(`"1e99999999"`)},
		"quantity, many digits":     {"POST", pods, "application/json", asJSON(`"` + strings.Repeat("7", 2<<20) + `"`)},
		"quantity, YAML":            {"POST", pods, "application/yaml", asJSON(`"` + huge + `"`)},
		"quantity, protobuf":        {"POST", pods, "application/vnd.kubernetes.protobuf", string(protoPod(t, huge))},
		"quantity, of another kind": {"POST", "/api/v1/namespaces/default/configmaps", "application/json", asJSON(huge)},
		"quantity, merge patch":     {"PATCH", pods + "/p", "application/merge-patch+json", asJSON(huge)},
		"quantity, strategic":       {"PATCH", pods + "/p", "application/strategic-merge-patch+json", `{"spec":{"containers":[{"name":"c","resources":{"limits":{"cpu":"` + huge + `"}}}]}}`},
		"quantity, JSON patch":      {"PATCH", pods + "/p", "application/json-patch+json", `[{"op":"add","path":"/spec/containers/0/resources","value":{"limits":{"cpu":"` + huge + `"}}}]`},
		"quantity, apply":           {"PATCH", pods + "/y?fieldManager=m", "application/apply-patch+yaml", asJSON(huge)},
		"many keys":                 {"POST", pods, "application/json", wide},
		"label flood":               {"POST", "/api/v1/namespaces/default/configmaps", "application/json", labels(20_000)},
		"label flood, applied":      {"PATCH", "/api/v1/namespaces/default/configmaps/flood?fieldManager=m", "application/apply-patch+yaml", labels(20_000)},
		"YAML aliases":              {"POST", pods, "application/yaml", aliases.String()},
		"YAML aliases, applied":     {"PATCH", pods + "/y?fieldManager=m", "application/apply-patch+yaml", aliases.String()},
		"JSON depth":                {"POST", pods, "application/json", strings.Repeat("[", 1<<20)},
		"YAML depth":                {"POST", pods, "application/yaml", strings.Repeat("[", 1<<20)},
		"patch operations":          {"PATCH", pods + "/p", "application/json-patch+json", "[" + strings.Repeat(`{"op":"test","path":"/kind","value":"Pod"},`, 50_000) + `{"op":"test","path":"/kind","value":"Pod"}]`},
		"patch copies":              {"PATCH", pods + "/p", "application/json-patch+json", doubling + "]"},
		"too large":                 {"POST", pods, "application/json", strings.Repeat(" ", 4<<20)},
		"an annotation's quantity":  {"POST", hpas, "application/json", `{"metadata":{"name":"h","annotations":{"autoscaling.alpha.kubernetes.io/metrics":"[{\"type\":\"Pods\",\"pods\":{\"metricName\":\"m\",\"targetAverageValue\":\"` + huge + `\"}}]"}},"spec":{"maxReplicas":1,"scaleTargetRef":{"kind":"D"}}}`},
	} {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), c.method, s.URL+c.path, bytes.NewReader([]byte(c.body)))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", c.typ)
			begun := time.Now()
			res, err := h.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			b, err := io.ReadAll(res.Body)
			if took := time.Since(begun); took > 5*time.Second {
				t.Errorf("took %v", took)
			}
			if err != nil || res.StatusCode < 400 && !harmless[name] || res.StatusCode >= 500 {
				t.Errorf("%d %.300s, %v", res.StatusCode, b, err)
			}
		})
	}
	// What looks like a number is one only where a number is meant.
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "12e45678", Labels: map[string]string{"commit": "12e45678"}}, Data: map[string]string{"a": "1e-99999999"}}
	if _, err := cs.CoreV1().ConfigMaps("default").Create(t.Context(), cm, metav1.CreateOptions{}); err != nil {
		t.Error(err)
	}
}
