// Command dashboard makes what is published of the dashboard: its JSON for Grafana and, from a run of the function on real
// servers, pictures of its rows.
//
//	go run . -json ../../observability/dashboard.json -pictures ../../docs/dashboard
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"coffeebuddy/test/dashboard/board"
	"coffeebuddy/test/dashboard/draw"
	"coffeebuddy/test/dashboard/live"
	"coffeebuddy/test/dashboard/published"

	"github.com/prometheus/client_golang/api"
	prometheus "github.com/prometheus/client_golang/api/prometheus/v1"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	file := flag.String("json", "", "write the dashboard to this `file`")
	pictures := flag.String("pictures", "", "then draw its rows into this `folder`")
	length := flag.Duration("length", 5*time.Minute, "how long the function runs for the pictures")
	flag.Parse()
	if err := run(ctx, *file, *pictures, *length); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, file, pictures string, length time.Duration) error {
	text, err := generate()
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, text, 0o644); err != nil {
		return err
	}
	if pictures == "" {
		return nil
	}
	return picture(ctx, file, pictures, length)
}

// generate returns the dashboard's file.
func generate() ([]byte, error) {
	built, err := board.New()
	if err != nil {
		return nil, err
	}
	text, err := json.MarshalIndent(built, "", "  ")
	return append(text, '\n'), err
}

// picture draws what the dashboard shows of a run.
func picture(ctx context.Context, file, folder string, length time.Duration) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	dir, err := os.MkdirTemp("", "coffeebuddy-dashboard-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	shown, err := published.Read(file)
	if err != nil {
		return err
	}
	story, err := live.Play(ctx, dir, length, os.Stderr)
	if err != nil {
		return err
	}
	client, err := api.NewClient(api.Config{Address: story.Prometheus})
	if err != nil {
		return err
	}
	view := published.View{From: story.From, To: story.To, Step: 2 * live.ScrapeInterval, Scrape: live.ScrapeInterval}
	return draw.Rows(ctx, prometheus.NewAPI(client), shown, view, folder)
}
