package checks_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"coffeebuddy/checks"
	"coffeebuddy/internal/servertest"

	"github.com/matryer/is"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// A dependency is a Checker whose result and duration a test sets.
type dependency struct {
	name    string
	starts  atomic.Int64
	running atomic.Int64
	most    atomic.Int64 // highest number of concurrent checks

	mu   sync.Mutex
	took time.Duration
	err  error
	deaf bool // ignores its deadline
}

func (d *dependency) Name() string { return d.name }

func (d *dependency) set(took time.Duration, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.took, d.err = took, err
}

func (d *dependency) Check(ctx context.Context) error {
	d.starts.Add(1)
	d.most.Store(max(d.most.Load(), d.running.Add(1)))
	defer d.running.Add(-1)
	d.mu.Lock()
	took, err, deaf := d.took, d.err, d.deaf
	d.mu.Unlock()
	if deaf {
		time.Sleep(took)
		return err
	}
	select {
	case <-time.After(took):
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func pair() (vault, ory *dependency) {
	return &dependency{name: "vault", took: time.Millisecond}, &dependency{name: "ory", took: time.Millisecond}
}

func defaults() checks.Options {
	return checks.Options{TTL: time.Second, Timeout: 2 * time.Second}
}

// bubble runs a test in a synctest bubble, and then lets running checks end.
func bubble(t *testing.T, test func(*testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		defer time.Sleep(3 * time.Hour)
		test(t)
	})
}

// shown formats a verdict like its body: "503 degraded ory=ok vault=sealed".
func shown(v *checks.Verdict) string {
	reason := func(name string) string {
		c := v.Components[name]
		if c.Status == "ok" {
			return "ok"
		}
		return string(c.Reason)
	}
	return fmt.Sprintf("%s ory=%s vault=%s", v.Status, reason("ory"), reason("vault"))
}

func probe(r *checks.Readiness) string { return shown(r.Verdict(context.Background())) }

func TestFirstProbeIsReadyWhenChecksAreQuick(t *testing.T) {
	bubble(t, func(t *testing.T) {
		is := is.New(t)
		vault, ory := pair()
		vault.took = 59 * time.Millisecond
		r := must(checks.New(defaults(), vault, ory))
		asked := time.Now()
		is.Equal(probe(r), "ready ory=ok vault=ok")
		is.Equal(time.Since(asked), 59*time.Millisecond) // it waits only for the last check
	})
}

func TestProbeWaitsSixtyMillisecondsAtMost(t *testing.T) {
	bubble(t, func(t *testing.T) {
		is := is.New(t)
		vault, ory := pair()
		vault.took = time.Hour
		r := must(checks.New(defaults(), vault, ory))
		asked := time.Now()
		is.Equal(probe(r), "degraded ory=ok vault=pending")
		is.Equal(time.Since(asked), 60*time.Millisecond)

		time.Sleep(2*time.Second + 10*time.Millisecond)
		is.Equal(probe(r), "degraded ory=ok vault=timeout") // the check's own deadline
	})
}

func TestProbeStopsWaitingWhenOneHasFreshlyFailed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		is := is.New(t)
		vault, ory := pair()
		vault.set(5*time.Millisecond, checks.Fail(checks.ReasonSealed, ""))
		ory.set(time.Hour, nil)
		r := must(checks.New(defaults(), vault, ory))
		asked := time.Now()
		is.Equal(probe(r), "degraded ory=pending vault=sealed")
		is.Equal(time.Since(asked), 5*time.Millisecond)
		is.Equal(probe(r), "degraded ory=pending vault=sealed") // fresh: certain immediately
		is.Equal(time.Since(asked), 5*time.Millisecond)
		time.Sleep(3 * time.Second)
	})
}

func TestOneCheckAtATimeAndOneStartPerTTL(t *testing.T) {
	bubble(t, func(t *testing.T) {
		is := is.New(t)
		vault, ory := pair()
		vault.took, ory.took = 30*time.Millisecond, 1500*time.Millisecond
		r := must(checks.New(defaults(), vault, ory))
		const span = 20 * time.Second
		began := time.Now()
		for time.Since(began) < span {
			go r.Verdict(t.Context())
			time.Sleep(time.Millisecond)
		}
		is.Equal(vault.most.Load(), int64(1))
		is.Equal(ory.most.Load(), int64(1))
		is.True(vault.starts.Load() <= int64(span/(time.Second+30*time.Millisecond))+1) // age counts from the end of a check
		is.True(vault.starts.Load() >= int64(span/(time.Second+40*time.Millisecond)))   // no probe is skipped for long
		is.True(ory.starts.Load() <= int64(span/(time.Second+1500*time.Millisecond))+1) // a slow check starts no more often
		time.Sleep(5 * time.Second)
	})
}

func TestLastVerdictIsUsedForThirtySecondsThenStale(t *testing.T) {
	bubble(t, func(t *testing.T) {
		is := is.New(t)
		vault, ory := pair()
		options := defaults()
		options.Timeout = time.Hour // so that the hung check is not recorded as a timeout
		r := must(checks.New(options, vault, ory))
		is.Equal(probe(r), "ready ory=ok vault=ok")
		checked := time.Now()
		vault.set(59*time.Minute, nil)

		time.Sleep(29*time.Second - time.Since(checked))
		is.Equal(probe(r), "ready ory=ok vault=ok")
		time.Sleep(30*time.Second + 10*time.Millisecond - time.Since(checked))
		is.Equal(probe(r), "degraded ory=ok vault=stale")
		is.Equal(metric(t, r, "coffeebuddy_ready"), 0.0)
		time.Sleep(time.Hour)
		is.Equal(probe(r), "degraded ory=ok vault=stale") // the late result is an hour old, too old to use
		time.Sleep(time.Hour)
	})
}

func TestCallerWhoHangsUpChangesNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		is := is.New(t)
		vault, ory := pair()
		vault.took = 300 * time.Millisecond
		r := must(checks.New(defaults(), vault, ory))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		r.Verdict(ctx)
		time.Sleep(400 * time.Millisecond)
		is.Equal(probe(r), "ready ory=ok vault=ok") // the check continued without its caller
		is.Equal(vault.starts.Load(), int64(1))
	})
}

func TestNothingRunsWhenNobodyAsks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		is := is.New(t)
		vault, ory := pair()
		r := must(checks.New(defaults(), vault, ory))
		time.Sleep(24 * time.Hour)
		metric(t, r, "coffeebuddy_ready") // a scrape starts no check either
		is.Equal(vault.starts.Load(), int64(0))
		probe(r)
		time.Sleep(24 * time.Hour)
		is.Equal(vault.starts.Load(), int64(1))
	})
}

func TestFailureIsSeenAndHealsAtTheFirstProbeAfterTheTTL(t *testing.T) {
	bubble(t, func(t *testing.T) {
		is := is.New(t)
		vault, ory := pair()
		r := must(checks.New(defaults(), vault, ory))
		is.Equal(probe(r), "ready ory=ok vault=ok")
		ory.set(0, checks.Fail(checks.ReasonRefused, ""))
		time.Sleep(999 * time.Millisecond)
		is.Equal(probe(r), "ready ory=ok vault=ok") // still fresh
		time.Sleep(time.Millisecond)
		is.Equal(probe(r), "degraded ory=refused vault=ok")
		ory.set(0, nil)
		time.Sleep(time.Second)
		is.Equal(probe(r), "ready ory=ok vault=ok")
	})
}

func TestCheckThatIgnoresItsDeadlineIsAnsweredForAndNotDoubled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		is := is.New(t)
		vault, ory := pair()
		vault.took, vault.deaf = 10*time.Second, true
		r := must(checks.New(defaults(), vault, ory))
		for began := time.Now(); time.Since(began) < 9*time.Second; time.Sleep(100 * time.Millisecond) {
			probe(r)
		}
		is.Equal(probe(r), "degraded ory=ok vault=timeout")
		is.Equal(vault.starts.Load(), int64(1)) // it keeps its slot
		vault.mu.Lock()
		vault.took, vault.deaf = 0, false
		vault.mu.Unlock()
		time.Sleep(4 * time.Second)
		is.Equal(probe(r), "ready ory=ok vault=ok") // its late nil was ignored, and a new check ran
	})
}

func TestDrainingIsForEver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		is := is.New(t)
		vault, ory := pair()
		vault.took = 50 * time.Millisecond
		r := must(checks.New(defaults(), vault, ory))
		go r.Verdict(t.Context())
		time.Sleep(10 * time.Millisecond)
		r.Drain()
		is.Equal(probe(r), "draining ory=ok vault=pending")
		time.Sleep(100 * time.Millisecond)
		is.Equal(probe(r), "draining ory=ok vault=ok") // a running check does not undo draining
		is.Equal(metric(t, r, "coffeebuddy_ready"), 0.0)
		time.Sleep(10 * time.Second)
		probe(r)
		is.Equal(vault.starts.Load(), int64(1)) // no new check starts
		is.True(r.Verdict(t.Context()).Retry())
	})
}

func TestGrace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		is := is.New(t)
		vault, ory := pair()
		options := defaults()
		options.Grace = 10 * time.Second
		ory.set(0, checks.Fail(checks.ReasonRefused, ""))
		r := must(checks.New(options, vault, ory))
		is.Equal(probe(r), "degraded ory=refused vault=pending") // never healthy, so no grace

		ory.set(0, nil)
		time.Sleep(time.Second)
		is.Equal(probe(r), "ready ory=ok vault=ok")
		ory.set(0, checks.Fail(checks.ReasonRefused, ""))
		time.Sleep(time.Second)
		failed := time.Now()
		is.Equal(probe(r), "ready ory=refused vault=ok") // the real reason is shown
		is.Equal(metric(t, r, "coffeebuddy_ready"), 1.0)
		is.Equal(metric(t, r, "coffeebuddy_dependency_up", "ory"), 0.0)
		for time.Since(failed) < 9900*time.Millisecond {
			is.Equal(probe(r), "ready ory=refused vault=ok")
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(200 * time.Millisecond)
		is.Equal(probe(r), "degraded ory=refused vault=ok")
		ory.set(0, nil)
		time.Sleep(time.Second)
		is.Equal(probe(r), "ready ory=ok vault=ok")
		ory.set(0, checks.Fail(checks.ReasonTimeout, ""))
		time.Sleep(time.Second)
		is.Equal(probe(r), "ready ory=timeout vault=ok") // a new failure gets a new grace period
	})
}

func TestRetryHelpsUnlessOnlyARestartDoes(t *testing.T) {
	for _, test := range []struct {
		when    string
		vault   checks.Checker
		ory     error
		want    string
		retry   bool
		drained bool
	}{
		{when: "vault fails", vault: &dependency{name: "vault", err: checks.Fail(checks.ReasonSealed, "")}, want: "degraded ory=ok vault=sealed", retry: true},
		{when: "vault has wrong settings", vault: checks.Misconfigured("vault"), want: "degraded ory=ok vault=misconfigured"},
		{when: "one has wrong settings and one fails", vault: checks.Misconfigured("vault"), ory: checks.Fail(checks.ReasonDNS, ""), want: "degraded ory=dns vault=misconfigured", retry: true},
		{when: "no client can be built, which a file may mend", vault: &dependency{name: "vault", err: checks.Fail(checks.ReasonMisconfigured, "")}, want: "degraded ory=ok vault=misconfigured", retry: true},
		{when: "all is well", vault: &dependency{name: "vault"}, want: "ready ory=ok vault=ok"},
	} {
		t.Run(test.when, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				is := is.New(t)
				r := must(checks.New(defaults(), test.vault, &dependency{name: "ory", err: test.ory}))
				r.Verdict(t.Context())
				synctest.Wait()
				v := r.Verdict(t.Context())
				is.Equal(shown(v), test.want)
				is.Equal(v.Retry(), test.retry)
			})
		})
	}
}

func TestMisconfiguredIsNeverChecked(t *testing.T) {
	bubble(t, func(t *testing.T) {
		is := is.New(t)
		r := must(checks.New(defaults(), checks.Misconfigured("vault"), checks.Misconfigured("ory")))
		asked := time.Now()
		v := r.Verdict(t.Context())
		is.Equal(shown(v), "degraded ory=misconfigured vault=misconfigured")
		is.Equal(time.Since(asked), time.Duration(0)) // nothing to wait for
		is.Equal(string(v.JSON()), `{"status":"degraded","components":{`+
			`"ory":{"status":"unavailable","reason":"misconfigured"},"vault":{"status":"unavailable","reason":"misconfigured"}}}`+"\n")
		is.Equal(metric(t, r, "coffeebuddy_dependency_checks_total", "vault"), 0.0)
		is.Equal(metric(t, r, "coffeebuddy_dependency_check_failures_total", "vault", "misconfigured"), 0.0)
	})
}

func TestJSONSaysWhenAndWhyAndNoMore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		is := is.New(t)
		vault, ory := pair()
		vault.set(0, checks.Fail(checks.ReasonDenied, "canary"))
		ory.set(0, errors.New("canary: dial tcp 10.0.0.1:4434"))
		r := must(checks.New(defaults(), vault, ory))
		probe(r)
		synctest.Wait()
		line := string(r.Verdict(t.Context()).JSON())
		at := time.Now().UTC().Format(time.RFC3339)
		is.Equal(line, `{"status":"degraded","components":{`+
			`"ory":{"status":"unavailable","reason":"bad_response","checked_at":"`+at+`"},`+
			`"vault":{"status":"unavailable","reason":"denied","checked_at":"`+at+`"}}}`+"\n")
	})
}

func TestPanicInACheckIsABadResponseAndALogLine(t *testing.T) {
	bubble(t, func(t *testing.T) {
		is := is.New(t)
		var logs logBuffer
		options := defaults()
		options.Log = logs.Logger()
		r := must(checks.New(options, panicking{"vault"}, &dependency{name: "ory"}))
		probe(r)
		synctest.Wait()
		is.Equal(probe(r), "degraded ory=ok vault=bad_response")
		is.True(strings.Contains(logs.String(), `"msg":"a panic was recovered","in":"check of vault"`))
		is.True(strings.Contains(logs.String(), `readiness_test.go`)) // the stack
		is.True(!strings.Contains(logs.String(), "canary"))           // a panic's own text may contain anything
	})
}

type panicking struct{ name string }

func (p panicking) Name() string                { return p.name }
func (p panicking) Check(context.Context) error { panic("canary") }

func TestChangesOfStateAreLoggedOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		is := is.New(t)
		var logs logBuffer
		options := defaults()
		options.Log = logs.Logger()
		vault, ory := pair()
		r := must(checks.New(options, vault, ory))
		probe(r)
		for _, err := range []error{
			checks.Fail(checks.ReasonSealed, "Vault is sealed"), checks.Fail(checks.ReasonSealed, "Vault is sealed"),
			nil, nil, context.DeadlineExceeded,
		} {
			vault.set(0, err)
			time.Sleep(time.Second)
			probe(r)
		}
		synctest.Wait()
		is.Equal(logs.messages(t, "vault"), []string{
			"INFO dependency is up", "WARN dependency is down: sealed", "INFO dependency is up", "WARN dependency is down: timeout",
		})
	})
}

func TestMetricsAreTheVerdict(t *testing.T) {
	bubble(t, func(t *testing.T) {
		is := is.New(t)
		vault, ory := pair()
		r := must(checks.New(defaults(), vault, ory))
		is.Equal(metric(t, r, "coffeebuddy_ready"), 0.0)
		is.Equal(metric(t, r, "coffeebuddy_dependency_last_check_timestamp_seconds", "vault"), 0.0)
		probe(r)
		ok := float64(time.Now().UnixMilli()) / 1000
		is.Equal(metric(t, r, "coffeebuddy_ready"), 1.0)
		is.Equal(metric(t, r, "coffeebuddy_dependency_up", "vault"), 1.0)
		is.Equal(metric(t, r, "coffeebuddy_readiness_transitions_total", "ready"), 1.0)
		is.Equal(metric(t, r, "coffeebuddy_dependency_last_success_timestamp_seconds", "vault"), ok)

		vault.set(0, checks.Fail(checks.ReasonSealed, ""))
		time.Sleep(time.Second)
		probe(r)
		is.Equal(metric(t, r, "coffeebuddy_ready"), 0.0)
		is.Equal(metric(t, r, "coffeebuddy_dependency_up", "vault"), 0.0)
		is.Equal(metric(t, r, "coffeebuddy_dependency_up", "ory"), 1.0)
		is.Equal(metric(t, r, "coffeebuddy_readiness_transitions_total", "unready"), 1.0)
		is.Equal(metric(t, r, "coffeebuddy_dependency_checks_total", "vault"), 2.0)
		is.Equal(metric(t, r, "coffeebuddy_dependency_check_failures_total", "vault", "sealed"), 1.0)
		is.Equal(metric(t, r, "coffeebuddy_dependency_last_success_timestamp_seconds", "vault"), ok)

		time.Sleep(time.Minute)
		is.Equal(metric(t, r, "coffeebuddy_dependency_up", "ory"), 0.0)                   // stale
		is.Equal(metric(t, r, "coffeebuddy_readiness_transitions_total", "unready"), 1.0) // a scrape counts no transition
		problems, err := testutil.CollectAndLint(r)
		is.NoErr(err)
		is.Equal(len(problems), 0)
	})
}

func TestOnReadyIsCalledOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		is := is.New(t)
		calls := 0
		options := defaults()
		options.OnReady = func() { calls++ }
		vault, ory := pair()
		r := must(checks.New(options, vault, ory))
		is.Equal(calls, 0)
		probe(r)
		vault.set(0, errors.New("down"))
		time.Sleep(time.Second)
		probe(r)
		vault.set(0, nil)
		time.Sleep(time.Second)
		probe(r)
		is.Equal(calls, 1)
	})
}

// metric returns the value of the series that has the name and all the label values.
func metric(t *testing.T, r *checks.Readiness, name string, labels ...string) float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(r)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
	series:
		for _, m := range family.GetMetric() {
			have := make(map[string]bool)
			for _, l := range m.GetLabel() {
				have[l.GetValue()] = true
			}
			for _, l := range labels {
				if !have[l] {
					continue series
				}
			}
			return m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	t.Fatalf("no series %s%v", name, labels)
	return 0
}

// A logBuffer records logs.
type logBuffer struct{ servertest.Logs }

// messages returns the lines about a dependency as "LEVEL message: reason".
func (b *logBuffer) messages(t *testing.T, dependency string) []string {
	t.Helper()
	var messages []string
	for line := range strings.Lines(b.String()) {
		var entry struct{ Level, Msg, Dependency, Reason string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatal(err)
		}
		if entry.Dependency == dependency {
			messages = append(messages, strings.TrimSuffix(entry.Level+" "+entry.Msg+": "+entry.Reason, ": "))
		}
	}
	return messages
}

func TestOptionsAndCheckers(t *testing.T) {
	t.Parallel()
	for _, checkers := range [][]checks.Checker{{nil}, {well("")}, {well("a"), well("b"), well("a")}, {well("vault"), checks.Misconfigured("vault")}} {
		_, err := checks.New(checks.Options{}, checkers...)
		is.New(t).True(err != nil)
	}
	r, err := checks.New(checks.Options{}, well("a")) // with its defaults
	is.New(t).NoErr(err)
	is.New(t).True(r.Verdict(t.Context()).Ready())
}
