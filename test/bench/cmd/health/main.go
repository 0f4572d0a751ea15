// Command health is a service that uses github.com/alexliesenfeld/health for its readiness, as its documentation shows: the same two
// checks, on demand, with the function's TTL and timeout. With PERIODIC=1 they run once a second, whether anybody asks or not. With
// DEPENDENCIES=n it has n checks that ask nobody.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/alexliesenfeld/health"

	"coffeebuddy/test/bench/internal/served"
)

func main() {
	const timeout = 2 * time.Second
	options := []health.CheckerOption{health.WithCacheDuration(time.Second), health.WithTimeout(timeout)}
	for _, check := range checks() {
		check.Timeout = timeout // the one for all is not that of a periodic check
		if os.Getenv("PERIODIC") != "" {
			options = append(options, health.WithPeriodicCheck(time.Second, 0, check))
		} else {
			options = append(options, health.WithCheck(check))
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health/live", served.Live)
	mux.Handle("GET /health/ready", health.NewHandler(health.NewChecker(options...)))
	served.Run(mux)
}

func checks() []health.Check {
	if n, err := strconv.Atoi(os.Getenv("DEPENDENCIES")); err == nil {
		all := make([]health.Check, n)
		for i := range all {
			all[i] = health.Check{Name: fmt.Sprintf("dependency-%d", i), Check: func(context.Context) error { return nil }}
		}
		return all
	}
	return []health.Check{
		{Name: "vault", Check: ask(os.Getenv("VAULT_ADDR") + "/v1/sys/health")},
		{Name: "ory", Check: ask(os.Getenv("ORY_BASE_URL") + "/health/ready")},
	}
}

// ask returns a check that wants a 200, which is what Vault and Ory answer when they can serve.
func ask(url string) func(context.Context) error {
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("status %d", response.StatusCode)
		}
		return nil
	}
}
