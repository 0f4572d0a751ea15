// Package observability holds observability/ to what the function really shows: the rules parse and pass promtool's tests, each alert
// has its tests and its runbook, and each series they name is exposed.
//
//	go test -short ./...   # without servers
//	go test ./...          # and a real Prometheus, Vault and Hydra, broken in the ways that each alert is about: two minutes
package observability
