package checks_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"coffeebuddy/checks"
)

// well is a dependency that is always healthy.
type well string

func (w well) Name() string                { return string(w) }
func (w well) Check(context.Context) error { return nil }

// BenchmarkVerdict measures concurrent probes, answered from memory.
func BenchmarkVerdict(b *testing.B) {
	for _, dependencies := range []int{2, 32} {
		b.Run(fmt.Sprint(dependencies), func(b *testing.B) {
			var all []checks.Checker
			for n := range dependencies {
				all = append(all, well(fmt.Sprint("dependency", n)))
			}
			r := must(checks.New(checks.Options{TTL: time.Second, Timeout: time.Second}, all...))
			b.ReportAllocs()
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					if !r.Verdict(b.Context()).Ready() {
						b.Error("not ready")
					}
				}
			})
		})
	}
}

// must returns r, and panics on an error.
func must(r *checks.Readiness, err error) *checks.Readiness {
	if err != nil {
		panic(err)
	}
	return r
}
