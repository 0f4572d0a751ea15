package coffeebuddy_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"

	"coffeebuddy"

	"github.com/matryer/is"
)

func get(handle http.HandlerFunc, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	handle(w, httptest.NewRequest("GET", path, nil))
	return w
}

func TestInstanceIsLiveBeforeItIsStarted(t *testing.T) {
	is := is.New(t)
	environment(t, nil)
	i := coffeebuddy.New()
	is.Equal(get(i.Handle, "/health/live").Code, 200)
	is.Equal(get(i.Handle, "/health/ready").Code, 503)
	is.Equal(get(i.Handle, "/metrics").Code, 503)
	ready, err := i.Ready(t.Context())
	is.NoErr(err)
	is.True(!ready)

	is.NoErr(i.Start(t.Context(), nil))
	ready, err = i.Ready(t.Context())
	is.NoErr(err)
	is.True(ready) // settings are good, though nothing else is there
	is.Equal(get(i.Handle, "/metrics").Code, 200)
	is.True(strings.Contains(get(i.Handle, "/health/ready").Body.String(), `"misconfigured"`))

	is.NoErr(i.Stop(context.Background()))
	ready, err = i.Ready(t.Context())
	is.NoErr(err)
	is.True(!ready)
	alive, err := i.Alive(t.Context())
	is.NoErr(err)
	is.True(alive)
	is.True(strings.Contains(get(i.Handle, "/health/ready").Body.String(), `"draining"`))
}

func TestInstanceListensForDebuggingUntilItStops(t *testing.T) {
	is := is.New(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	is.NoErr(err)
	environment(t, map[string]string{"COFFEEBUDDY_DEBUG_ADDR": taken.Addr().String()})
	err = coffeebuddy.New().Start(t.Context(), nil)
	is.True(err != nil)
	is.Equal(err.Error(), "listen on COFFEEBUDDY_DEBUG_ADDR: address already in use")
	is.NoErr(taken.Close())

	i := coffeebuddy.New()
	is.NoErr(i.Start(t.Context(), nil))
	url := "http://" + taken.Addr().String() + "/debug/settings"
	resp, err := http.Get(url)
	is.NoErr(err)
	resp.Body.Close()
	is.Equal(resp.StatusCode, 200)
	is.Equal(get(i.Handle, "/debug/settings").Code, 404) // not where everybody can ask
	is.NoErr(i.Stop(t.Context()))
	_, err = http.Get(url)
	is.True(errors.Is(err, syscall.ECONNREFUSED))
}

func TestInstanceWithWrongSettingsDoesNotStart(t *testing.T) {
	is := is.New(t)
	environment(t, map[string]string{"COFFEEBUDDY_CHECK_TTL": "canary"})
	i := coffeebuddy.New()
	err := i.Start(t.Context(), nil)
	is.True(err != nil)
	is.Equal(err.Error(), "COFFEEBUDDY_CHECK_TTL: must be a duration from 50ms to 15s, such as 1s or 250ms")
	ready, err := i.Ready(t.Context())
	is.NoErr(err)
	is.True(!ready)
	is.NoErr(i.Stop(t.Context()))
}
