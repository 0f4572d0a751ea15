package stub

import (
	"context"
	"net/http"
	"strings"
	"sync"
)

// A Gate is what the receiver of test/e2e/gate asks whether it is done: by its name it fails, is refused or hangs first.
type Gate struct {
	URL string

	server *http.Server
	mu     sync.Mutex
	asked  map[string]int
}

// StartGate starts it on a free port of host.
//
// A name that starts with fails gets 500 three times, one that starts with refused always 410, and one that starts with hangs
// no response the first time, until the asking process ends. Otherwise the response is 200.
func StartGate(ctx context.Context, host string) (*Gate, error) {
	g := &Gate{asked: make(map[string]int)}
	var err error
	g.URL, g.server, err = serve(ctx, host, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/")
		g.mu.Lock()
		g.asked[name]++
		attempt := g.asked[name]
		g.mu.Unlock()
		switch {
		case strings.HasPrefix(name, "fails") && attempt <= 3:
			w.WriteHeader(http.StatusInternalServerError)
		case strings.HasPrefix(name, "refused"):
			w.WriteHeader(http.StatusGone)
		case strings.HasPrefix(name, "hangs") && attempt == 1:
			<-r.Context().Done()
		}
	}))
	return g, err
}

// Asked returns how often a name was asked for.
func (g *Gate) Asked(name string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.asked[name]
}

// Close stops it.
func (g *Gate) Close() error { return g.server.Close() }
