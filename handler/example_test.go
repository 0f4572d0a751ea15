package handler_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"time"

	"coffeebuddy/handler"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/prometheus/client_golang/prometheus"
)

func Example() {
	h, err := handler.New(handler.Config{
		App: "coffeebuddy", Environment: "dev", Version: "v1.0.0", Started: time.Now(),
		Ready:       func(context.Context) handler.Readiness { return handler.Readiness{Ready: true, JSON: []byte("{}\n")} },
		MetricsPath: "/metrics", Registry: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler),
		EventsInFlight: 32, EventTimeout: 10 * time.Second,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	// A feature: receive orders, refuse tea for good.
	err = h.On("coffee.ordered", func(_ context.Context, e event.Event) (*event.Event, error) {
		if string(e.Data()) == "tea" {
			return nil, handler.Permanent(fmt.Errorf("order %s is for tea", e.ID()))
		}
		return nil, nil
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	for _, drink := range []string{"espresso", "tea"} {
		r := httptest.NewRequest("POST", "/", strings.NewReader(drink))
		r.Header.Set("Ce-Specversion", "1.0")
		r.Header.Set("Ce-Id", "1")
		r.Header.Set("Ce-Source", "/counter")
		r.Header.Set("Ce-Type", "coffee.ordered")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		fmt.Println(drink, w.Code)
	}
	// Output:
	// espresso 204
	// tea 422
}
