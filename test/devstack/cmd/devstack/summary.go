package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"

	"coffeebuddy/test/devstack"
)

// summarize says what runs where. It shows no token: that is in the file with the exports.
func summarize(out io.Writer, stack *devstack.Stack) {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	defer table.Flush()
	fmt.Fprintln(table)
	fmt.Fprintf(table, "Vault\t%s\tlog: %s\n", stack.Vault.URL, stack.Vault.LogFile())
	fmt.Fprintf(table, "Hydra, admin\t%s\tlog: %s\n", stack.Hydra.AdminURL, stack.Hydra.LogFile())
	fmt.Fprintf(table, "Hydra, public\t%s\t(same log)\n", stack.Hydra.PublicURL)
	if stack.Prometheus != nil {
		fmt.Fprintf(table, "Prometheus\t%s\tlog: %s\n", stack.Prometheus.URL, stack.Prometheus.LogFile())
	}
	if stack.Postgres != nil {
		fmt.Fprintf(table, "PostgreSQL\t%s\tlog: %s\n", stack.Postgres.URL, stack.Postgres.LogFile())
	}
	fmt.Fprintf(table, "Exports\t%s\t(Vault, Ory, Slack, PORT, and an OAuth2 client)\n", stack.EnvFile)
}

// watch tells when a server ends before ctx does. It goes on without it: taking one away is a fine way to see what the function says.
func watch(ctx context.Context, out io.Writer, stack *devstack.Stack) {
	processes := map[string]*devstack.Process{"Vault": stack.Vault.Process, "Hydra": stack.Hydra.Process}
	if stack.Prometheus != nil {
		processes["Prometheus"] = stack.Prometheus.Process
	}
	if stack.Postgres != nil {
		processes["PostgreSQL"] = stack.Postgres.Process
	}
	for name, process := range processes {
		go func() {
			select {
			case <-process.Ended():
				if ctx.Err() == nil {
					fmt.Fprintf(out, "%s has ended (exit code %d), the rest goes on; its log: %s\n", name, process.ExitCode(), process.LogFile())
				}
			case <-ctx.Done():
			}
		}()
	}
}
