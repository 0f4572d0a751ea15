package devstack_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

	"github.com/matryer/is"

	"coffeebuddy/test/devstack"
)

func TestHydraIsReadyForUse(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	hydra := startHydra(t)

	is.Equal(readiness(t, hydra), http.StatusOK)
	_, err := hydra.AccessToken(t.Context(), hydra.Client, devstack.EventsScope)
	is.NoErr(err)
	_, err = hydra.AccessToken(t.Context(), hydra.Client, "other")
	is.Equal(status(err), http.StatusBadRequest) // a scope that the client has not got
}

func TestHydraWithoutItsDatabase(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	hydra := startHydra(t)

	for range 2 {
		is.NoErr(hydra.BreakDatabase())
		is.Equal(readiness(t, hydra), http.StatusServiceUnavailable)
		alive, err := hydra.Alive(t.Context())
		is.NoErr(err)
		is.Equal(alive, http.StatusOK)
		_, err = hydra.CreateClient(t.Context(), "other")
		is.Equal(status(err), http.StatusInternalServerError)

		is.NoErr(hydra.RepairDatabase())
		is.Equal(readiness(t, hydra), http.StatusOK)
		_, err = hydra.AccessToken(t.Context(), hydra.Client, devstack.EventsScope)
		is.NoErr(err)
	}
}

func TestHydraStopsFreezesAndRestarts(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	hydra := startHydra(t)

	is.NoErr(hydra.Freeze(t.Context()))
	soon, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := hydra.Health(soon)
	is.True(errors.Is(err, context.DeadlineExceeded)) // hung
	is.NoErr(hydra.Thaw())
	is.Equal(readiness(t, hydra), http.StatusOK)

	is.NoErr(hydra.Stop(t.Context()))
	_, err = hydra.Health(t.Context())
	is.True(errors.Is(err, syscall.ECONNREFUSED)) // stopped
	is.NoErr(hydra.Start(t.Context()))
	_, err = hydra.AccessToken(t.Context(), hydra.Client, devstack.EventsScope)
	is.NoErr(err) // it still knows its client
}

func TestHydraBehindAPathPrefix(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	hydra := startHydra(t)
	proxy, err := devstack.BehindPrefix("/auth/ory", hydra.AdminURL)
	is.NoErr(err)
	server := httptest.NewServer(proxy)
	defer server.Close()

	for path, want := range map[string]int{"/auth/ory/health/ready": 200, "/health/ready": 404, "/auth/ory/nothing": 404} {
		answer, err := http.Get(server.URL + path)
		is.NoErr(err)
		answer.Body.Close()
		is.Equal(answer.StatusCode, want)
	}
}

func startHydra(t *testing.T) *devstack.Hydra {
	t.Helper()
	needBinaries(t)
	hydra, err := devstack.StartHydra(t.Context(), devstack.HydraOptions{Progress: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := hydra.Close(); err != nil {
			t.Error(err)
		}
		if hydra.Running() {
			t.Error("it still runs")
		}
	})
	return hydra
}

func readiness(t *testing.T, hydra *devstack.Hydra) int {
	t.Helper()
	status, err := hydra.Health(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return status
}
