// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"fmt"
	"runtime"
	"testing"

	iradix "github.com/hashicorp/go-immutable-radix/v2"
	"github.com/tidwall/btree"
)

// The two trees that docs/decisions/030-state-trees.md chose between, at our use: write one key and publish a copy; find one
// key; read a namespace of 100 among 10,000.

func treeKeys() []string {
	keys := make([]string, 10_000)
	for i := range keys {
		keys[i] = fmt.Sprintf("namespace-%03d/web-7d4b9c6f5d-%05d", i/100, i)
	}
	return keys
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func BenchmarkBTree(b *testing.B) {
	keys, e := treeKeys(), new(Entry)
	before := heap()
	m := new(btree.Map[string, *Entry])
	for _, k := range keys {
		m.Set(k, e)
	}
	size := heap() - before
	b.Run("write", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			m = m.Copy()
			m.Set(keys[i*7919%len(keys)], e)
		}
		b.ReportMetric(float64(size)/float64(len(keys)), "B/key")
	})
	b.Run("get", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			m.Get(keys[i*7919%len(keys)])
		}
	})
	b.Run("scan100", func(b *testing.B) {
		for b.Loop() {
			n := 0
			for range scan(m, "namespace-050/", "") {
				n++
			}
			if n != 100 {
				b.Fatal(n)
			}
		}
	})
}

func BenchmarkRadix(b *testing.B) {
	keys, e := treeKeys(), new(Entry)
	before := heap()
	m := iradix.New[*Entry]()
	for _, k := range keys {
		m, _, _ = m.Insert([]byte(k), e)
	}
	size := heap() - before
	b.Run("write", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			m, _, _ = m.Insert([]byte(keys[i*7919%len(keys)]), e)
		}
		b.ReportMetric(float64(size)/float64(len(keys)), "B/key")
	})
	b.Run("get", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			m.Get([]byte(keys[i*7919%len(keys)]))
		}
	})
	b.Run("scan100", func(b *testing.B) {
		for b.Loop() {
			n := 0
			m.Root().WalkPrefix([]byte("namespace-050/"), func([]byte, *Entry) bool { n++; return false })
			if n != 100 {
				b.Fatal(n)
			}
		}
	})
}
