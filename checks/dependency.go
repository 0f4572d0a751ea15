package checks

import (
	"context"
	"time"

	"coffeebuddy/internal/fault"
	"coffeebuddy/internal/single"
)

// A dependency is what Readiness knows of one Checker. Readiness' lock guards it.
type dependency struct {
	checker Checker
	name    string
	fixed   bool // misconfigured by its settings: never checked

	work single.Work // one check at a time

	checkedAt time.Time // end of the last check, zero before the first
	reason    Reason    // of the last check, "" if it succeeded
	succeeded time.Time // end of the last successful check, zero if there was none
	failed    time.Time // end of the first failed check since then, zero if there was none
	told      Reason    // what the last verdict said of it
}

// A run is one check.
type run struct {
	began    time.Time
	recorded bool // its result is in; it may go on if it does not heed its deadline
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

// graced reports whether the dependency's failure is forgiven at now: it has been
// healthy, and has not failed for longer than the grace. A verdict that turned
// stale without a failure has failed since it did.
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

// check runs one check. A checker that does not return at its deadline is
// answered for; it keeps its slot, so that no second one starts beside it.
func (r *Readiness) check(d *dependency) {
	run := &run{began: time.Now()}
	d.work.Start(context.Background(), func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, func() { r.record(d, run, ctx.Err()) })
		defer stop()
		return d.checker.Check(ctx)
	}, func(err error) { r.record(d, run, err) })
}

// record takes in the result of a check: verdict, metrics and the readiness that
// follows from them in one step. Of two results of one run the first counts.
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

	// Outside the lock: a log that blocks must not hold up a probe.
	switch {
	case err == nil && (first || before != ""):
		r.options.Log.Info("dependency is up", "dependency", d.name)
	case err != nil && (first || before != ReasonOf(err)):
		r.options.Log.Warn("dependency is down", "dependency", d.name, "reason", string(ReasonOf(err)), "detail", fault.Of(err).Detail)
	}
}
