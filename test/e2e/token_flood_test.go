package e2e

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/matryer/is"

	"coffeebuddy/test/devstack"
)

// TestFloodOfTokens has 200 connections try made-up tokens as fast as they can. Senders whose token is known are not held up, and those
// that come with a good one for the first time are let in.
// It has the machine for itself, since a question has 2 s: beside the other tests Hydra answers later than that.
func TestFloodOfTokens(t *testing.T) {
	is := is.New(t)
	p := startPlatform(t, devstack.VaultOptions{})
	f := startGuarded(t, p, "COFFEEBUDDY_CHECK_TIMEOUT=2s")
	var tokens []devstack.Secret
	for range 100 {
		token, err := p.hydra.AccessToken(t.Context(), p.hydra.Client, devstack.EventsScope)
		is.NoErr(err)
		tokens = append(tokens, token)
	}
	known := tokens[0]
	is.Equal(f.send(t, known).status, 200)

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var (
		mu    sync.Mutex
		flood = make(map[int]int)
		all   sync.WaitGroup
	)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 200}, Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	for worker := range 200 {
		all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				a, err := f.post(t.Context(), client, devstack.Secret(fmt.Sprintf("ory_at_%d.%d", worker, n)), "boson.fn")
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				flood[a.status]++
				mu.Unlock()
			}
		})
	}
	news, olds := make(map[int]int), make(map[int]int)
	var slowestNew, slowestOld time.Duration
	for n := 1; ctx.Err() == nil && n < len(tokens); n++ {
		began := time.Now()
		olds[f.send(t, known).status]++
		slowestOld = max(slowestOld, time.Since(began))
		began = time.Now()
		news[f.send(t, tokens[n]).status]++
		slowestNew = max(slowestNew, time.Since(began))
	}
	all.Wait()
	t.Log("made-up tokens:", flood, "new good ones:", news, "the slowest", slowestNew, "known ones:", olds, "the slowest", slowestOld)
	is.Equal(len(olds), 1) // 200 alone
	is.True(olds[200] > 0)
	is.True(news[200] > 0)
	is.True(news[503]*20 <= news[200]) // on a machine so busy that a question takes its 2 s
	is.True(news[401]+news[403] == 0)
}
