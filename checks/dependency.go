package checks

import (
	"context"
	"time"

	"coffeebuddy/internal/fault"
	"coffeebuddy/internal/single"
)

// A dependency is the state of one Checker. Readiness' lock guards it.
type dependency struct {
	checker Checker
	name    string
	fixed   bool // misconfigured by settings: never checked

	work single.Work // one check at a time

	checkedAt time.Time // end of the last check, zero before the first
	reason    Reason    // of the last check, "" if it succeeded
	succeeded time.Time // end of the last successful check, zero if there was none
	failed    time.Time // end of the first failed check since then, zero if there was none
	told      Reason    // the reason that the last verdict reported
}

// A run is one check.
type run struct {
	began    time.Time
	recorded bool // its result is recorded; the check may still run if it ignores its deadline
}

func newDependency(c Checker, options Options) *dependency {
	d := &dependency{checker: c, name: c.Name()}
	d.work = single.Work{Name: "check of " + d.name, Timeout: options.Timeout, Log: options.Log, OnPanic: options.OnPanic}
	_, d.fixed = c.(misconfigured)
	return d
}

// fresh reports whether the last verdict is younger than the TTL.
func (d *dependency) fresh(now time.Time, ttl time.Duration) bool {
	return !d.checkedAt.IsZero() && now.Sub(d.checkedAt) < ttl
}

// due reports whether a check should start.
func (d *dependency) due(now time.Time, ttl time.Duration) bool {
	return !d.fixed && !d.fresh(now, ttl) && d.work.Running() == nil
}

// reasonAt returns why the dependency cannot serve at now, "" if it can.
func (d *dependency) reasonAt(now time.Time) Reason {
	switch {
	case d.fixed:
		return ReasonMisconfigured
	case d.checkedAt.IsZero():
		return ReasonPending
	case now.Sub(d.checkedAt) > maxAge:
		return ReasonStale
	}
	return d.reason
}

// graced reports whether the dependency's failure is tolerated at now: it has been healthy, and its
// failure is not older than the grace period. A verdict that became stale without a failed check
// counts as a failure since it became stale.
func (d *dependency) graced(now time.Time, grace time.Duration) bool {
	if d.succeeded.IsZero() {
		return false
	}
	since := d.failed
	if since.IsZero() {
		since = d.checkedAt.Add(maxAge)
	}
	return now.Sub(since) < grace
}

func (d *dependency) component(reason Reason) Component {
	c := Component{Status: "ok", Reason: reason}
	if reason != "" {
		c.Status = "unavailable"
	}
	if !d.checkedAt.IsZero() {
		at := d.checkedAt.UTC().Truncate(time.Millisecond)
		c.CheckedAt = &at
	}
	return c
}

// check runs one check. If the checker does not return by its deadline, a timeout is recorded in
// its place; it keeps its slot, so that no second check starts.
func (r *Readiness) check(d *dependency) {
	run := &run{began: time.Now()}
	d.work.Start(context.Background(), func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, func() { r.record(d, run, ctx.Err()) })
		defer stop()
		return d.checker.Check(ctx)
	}, func(err error) { r.record(d, run, err) })
}

// record stores the result of a check: verdict, metrics and the resulting readiness change in one
// step. Only the first result of a run counts.
func (r *Readiness) record(d *dependency, run *run, err error) {
	r.mu.Lock()
	if run.recorded {
		r.mu.Unlock()
		return
	}
	run.recorded = true
	now := time.Now()
	before, first := d.reason, d.checkedAt.IsZero()
	d.checkedAt, d.reason = now, ReasonOf(err)
	switch {
	case d.reason == "":
		d.succeeded, d.failed = now, time.Time{}
	case d.failed.IsZero():
		d.failed = now
	}
	r.metrics.checked(d, now.Sub(run.began))
	r.forget()
	r.settle(now)
	close(r.changed)
	r.changed = make(chan struct{})
	r.mu.Unlock()

	// Outside the lock: a blocked log must not delay a probe.
	switch {
	case err == nil && (first || before != ""):
		r.options.Log.Info("dependency is up", "dependency", d.name)
	case err != nil && (first || before != ReasonOf(err)):
		r.options.Log.Warn("dependency is down", "dependency", d.name, "reason", string(ReasonOf(err)), "detail", fault.Of(err).Detail)
	}
}
