package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// A gateway sends requests where Knative's own Ingress object says, as Kourier or Istio would: loads go through it, because the
// ingress of a test cluster may let only a few requests a second pass.
type gateway struct {
	mu     sync.Mutex
	splits []split
}

type split struct {
	ServiceName   string
	ServicePort   int
	Percent       int
	AppendHeaders map[string]string

	address string
}

// startGateway returns a caller whose requests go through a gateway of its own.
func startGateway(t *testing.T, host string) *caller {
	t.Helper()
	g := new(gateway)
	ctx, stop := context.WithCancel(t.Context())
	watch := exec.CommandContext(ctx, "kubectl", "-n", namespace, "get", "ingresses.networking.internal.knative.dev", "coffeebuddy", "-o", "json", "--watch")
	var problems bytes.Buffer
	watch.Stderr = &problems
	objects, err := watch.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- errors.Join(g.follow(ctx, objects), watch.Wait()) }()
	server := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite:   g.rewrite,
		Transport: &http.Transport{MaxIdleConnsPerHost: 64},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, "the gateway: "+err.Error(), http.StatusBadGateway)
		},
	})
	t.Cleanup(func() {
		server.Close()
		stop()
		if err := <-ended; ctx.Err() == nil {
			t.Errorf("watch the Ingress: %v: %s", err, problems.String())
		}
	})
	eventually(t, 30*time.Second, "the gateway knows where to", func() error {
		if _, ok := g.pick(); !ok {
			return errors.New("no Ingress yet")
		}
		return nil
	})
	return newCaller(server.URL, host, 30*time.Second)
}

// follow takes over each state of the Ingress that kubectl writes, once all it names can be reached: until then the last one is right.
func (g *gateway) follow(ctx context.Context, objects io.Reader) error {
	addresses := map[string]string{}
	for decoder := json.NewDecoder(objects); ; {
		var object struct {
			Spec struct {
				Rules []struct {
					HTTP struct {
						Paths []struct {
							Splits        []split
							AppendHeaders map[string]string
						}
					}
				}
			}
		}
		if err := decoder.Decode(&object); err != nil {
			return err
		}
		path := object.Spec.Rules[0].HTTP.Paths[0]
		for i := range path.Splits {
			s := &path.Splits[i]
			if addresses[s.ServiceName] == "" {
				ip, err := command(ctx, "", "kubectl", "-n", namespace, "get", "service", s.ServiceName, "-o", "jsonpath={.spec.clusterIP}")
				if err != nil {
					return err
				}
				addresses[s.ServiceName] = fmt.Sprintf("%s:%d", ip, s.ServicePort)
				if err := s.reached(ctx, addresses[s.ServiceName]); err != nil {
					return err
				}
			}
			s.address = addresses[s.ServiceName]
		}
		g.mu.Lock()
		g.splits = path.Splits
		g.mu.Unlock()
	}
}

// reached waits until an address leads to the function: Kourier and Istio send requests to the endpoints themselves, which they
// know of in time, and nodes may learn of a new Service a second later.
func (s split) reached(ctx context.Context, address string) error {
	var header []string
	for name, value := range s.AppendHeaders {
		header = append(header, name+": "+value)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for leads(ctx, address, header...) != nil {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

func (g *gateway) pick() (split, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := rand.IntN(100)
	for _, s := range g.splits {
		if n -= s.Percent; n < 0 {
			return s, true
		}
	}
	return split{}, false
}

func (g *gateway) rewrite(r *httputil.ProxyRequest) {
	s, _ := g.pick()
	r.SetURL(&url.URL{Scheme: "http", Host: s.address})
	r.SetXForwarded()
	r.Out.Host = strings.TrimSuffix(r.In.Host, ".")
	for name, value := range s.AppendHeaders {
		r.Out.Header.Set(name, value) // whose revision it is, for the activator
	}
}
