package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"coffeebuddy/test/devstack"
)

// A fault is a way to break a running server, and to heal it.
type fault struct {
	name      string
	breaks    func(context.Context) error
	heals     func(context.Context) error
	says      []string // what readiness may say while it lasts
	meanwhile []string // and besides "ok" and that, while it is being broken or healed
}

func vaultFaults(v *devstack.Vault) []fault {
	restart := func(ctx context.Context) error {
		if err := v.Start(ctx); err != nil {
			return err
		}
		return v.Unseal(ctx)
	}
	return []fault{
		{name: "sealed", breaks: v.Seal, heals: v.Unseal, says: []string{"sealed"}},
		{name: "hung", breaks: v.Freeze, heals: done(v.Thaw), says: []string{"timeout"}},
		{name: "stopped", breaks: v.Stop, heals: restart, says: []string{"refused"}, meanwhile: []string{"sealed"}},
		{name: "killed", breaks: killed(v.Process), heals: restart, says: []string{"refused"}, meanwhile: []string{"sealed"}},
		// Only a lookup of the token is audited, and a good one is believed for 30 s: it may or may not be seen.
		{name: "without audit", breaks: v.BlockAudit, heals: done(v.UnblockAudit), says: []string{"ok", "unavailable"}},
	}
}

func hydraFaults(h *devstack.Hydra) []fault {
	return []fault{
		{name: "hung", breaks: h.Freeze, heals: done(h.Thaw), says: []string{"timeout"}},
		{name: "stopped", breaks: h.Stop, heals: h.Start, says: []string{"refused"}, meanwhile: []string{"unavailable"}},
		{name: "killed", breaks: killed(h.Process), heals: h.Start, says: []string{"refused"}, meanwhile: []string{"unavailable"}},
		{name: "without database", breaks: done(h.BreakDatabase), heals: done(h.RepairDatabase), says: []string{"unavailable"}},
	}
}

// trouble breaks one server over and over, and knows what is true of it at each moment.
type trouble struct {
	faults []fault
	random *rand.Rand
	truth  *timeline
	made   map[string]int // how often each fault was made
}

func newTrouble(seed, stream uint64, faults []fault) *trouble {
	t := &trouble{faults: faults, random: rand.New(rand.NewPCG(seed, stream)), truth: new(timeline), made: make(map[string]int)}
	t.truth.now("healthy", "ok")
	return t
}

// run makes faults until ctx ends, each of them as often as the others. The server is healthy when it returns, unless with an error.
func (t *trouble) run(ctx context.Context) error {
	for {
		for _, i := range t.random.Perm(len(t.faults)) {
			// Drawn before they are needed, so that a seed gives the same lengths whatever else happens.
			healthy, broken := t.length(), t.length()
			if !pause(ctx, healthy) {
				return nil
			}
			if err := t.make(ctx, t.faults[i], broken); err != nil {
				return fmt.Errorf("%s: %w", t.faults[i].name, err)
			}
		}
	}
}

// length returns how long something lasts: every third time too short to be seen for sure, else for one to four seconds.
func (t *trouble) length() time.Duration {
	short, long := t.random.Int64N(int64(300*time.Millisecond)), int64(time.Second)+t.random.Int64N(int64(3*time.Second))
	if t.random.IntN(3) == 0 {
		return time.Duration(short)
	}
	return time.Duration(long)
}

// make makes one fault. It is healed even if ctx ends meanwhile.
func (t *trouble) make(ctx context.Context, f fault, length time.Duration) error {
	doing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	possible := append(append([]string{"ok"}, f.says...), f.meanwhile...)
	t.truth.now("turning "+f.name, possible...)
	if err := f.breaks(doing); err != nil {
		return err
	}
	t.truth.now(f.name, f.says...)
	t.made[f.name]++
	pause(ctx, length)
	t.truth.now("healing from being "+f.name, possible...)
	if err := f.heals(doing); err != nil {
		return err
	}
	t.truth.now("healthy", "ok")
	return nil
}

// pause returns when the time is over, or false as soon as ctx ends.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
