package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"coffeebuddy"
	"coffeebuddy/checks"

	"github.com/matryer/is"
)

// servers are a Vault and an Ory server as far as readiness asks them.
type servers struct{ vault, ory http.HandlerFunc }

func healthy() servers {
	return servers{
		vault: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			switch r.URL.Path {
			case "/v1/sys/health":
				_, _ = w.Write([]byte(`{"initialized":true,"sealed":false,"standby":false}`))
			case "/v1/auth/token/lookup-self":
				_, _ = w.Write([]byte(`{"data":{"ttl":3600,"creation_ttl":3600,"renewable":false,"num_uses":0}}`))
			default:
				w.WriteHeader(http.StatusNotFound)
			}
		},
		ory: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"status":"ok"}`))
		},
	}
}

// sealed is a Vault that is sealed.
func sealed(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(`{"initialized":true,"sealed":true,"standby":true}`))
}

const vaultToken = "hvs.a-token-that-nobody-may-see"

// runCheck runs function check against servers.
func runCheck(t *testing.T, s servers, args []string, variables ...string) (code int, out, errs string) {
	t.Helper()
	vault, ory := httptest.NewServer(s.vault), httptest.NewServer(s.ory)
	t.Cleanup(vault.Close)
	t.Cleanup(ory.Close)
	return runArgs(t, append([]string{"check"}, args...), append([]string{
		"VAULT_ADDR=" + vault.URL, "VAULT_TOKEN=" + vaultToken, "ORY_BASE_URL=" + ory.URL,
	}, variables...)...)
}

// runArgs runs the program with arguments, and nothing but these variables.
func runArgs(t *testing.T, args []string, variables ...string) (code int, out, errs string) {
	t.Helper()
	ctx := t.Context()
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append([]string{"BE_THE_FUNCTION=1"}, variables...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // its exit code says it
	if all := stdout.String() + stderr.String(); strings.Contains(all, vaultToken) {
		t.Error("it shows the token")
	}
	return cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
}

func TestCheckSaysReady(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	code, out, errs := runCheck(t, healthy(), nil)
	is.Equal(code, 0)
	is.Equal(errs, "")
	is.True(strings.HasSuffix(out, "\nready\n"))
	is.True(strings.Contains(out, "\nvault: ok\n  GET /v1/sys/health → to 127.0.0.1:"))
	is.True(strings.Contains(out, "GET /v1/auth/token/lookup-self"))
	is.True(strings.Contains(out, "→ connected to 127.0.0.1:"))
	is.True(strings.Contains(out, "→ status 200 ("))
	is.True(regexp.MustCompile(`VAULT_TOKEN +set +\[redacted\]`).MatchString(out))
}

func TestCheckSaysWhyNotReady(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	private := httptest.NewTLSServer(healthy().vault)
	t.Cleanup(private.Close)
	denied := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/sys/health" {
			healthy().vault(w, r)
			return
		}
		w.WriteHeader(http.StatusForbidden)
	}
	for name, test := range map[string]struct {
		vault     http.HandlerFunc
		variables []string
		reason    checks.Reason
		way       string // what the way there shows
	}{
		"Vault is sealed":           {vault: sealed, reason: "sealed", way: "→ status 200 ("},
		"Vault refuses the token":   {vault: denied, reason: "denied", way: "GET /v1/auth/token/lookup-self"},
		"Vault has no name":         {variables: []string{"VAULT_ADDR=http://vault.invalid"}, reason: "dns", way: "the name cannot be resolved"},
		"nobody listens":            {variables: []string{"VAULT_ADDR=http://127.0.0.1:1"}, reason: "refused", way: "127.0.0.1:1: connection refused"},
		"an unknown authority":      {variables: []string{"VAULT_ADDR=" + private.URL}, reason: "tls", way: "→ connected to 127.0.0.1:"},
		"it accepts, and that's it": {variables: []string{"VAULT_ADDR=http://" + silent.Addr().String(), "COFFEEBUDDY_CHECK_TIMEOUT=10s"}, reason: "timeout", way: "no response"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			s := healthy()
			if test.vault != nil {
				s.vault = test.vault
			}
			began := time.Now()
			code, out, errs := runCheck(t, s, nil, test.variables...)
			is.True(time.Since(began) < 8*time.Second) // 5 s, and some for a busy machine
			is.Equal(code, 1)
			is.Equal(errs, "")
			is.True(strings.HasSuffix(out, "\nnot ready\n"))
			is.True(strings.Contains(out, "\nory: ok\n"))
			is.True(strings.Contains(out, "\nvault: "+string(test.reason)+" ("))
			is.True(strings.Contains(out, test.way))
			is.True(strings.Contains(out, "look at: "+advice(test.reason)))
		})
	}
}

// stuck is a check of a feature's that ignores its deadline.
type stuck struct{ end chan struct{} }

func (s stuck) Name() string                { return "stuck" }
func (s stuck) Check(context.Context) error { <-s.end; return nil }

func TestCheckLeavesBehindWhatIgnoresItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		s := stuck{make(chan struct{})}
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		began := time.Now()
		d := ask(ctx, s)
		is.Equal(d.Reason, checks.ReasonTimeout)
		is.Equal(time.Since(began), time.Second+leftBehind)
		close(s.end)
	})
}

// panicking is a check of a feature's that panics.
type panicking struct{}

func (panicking) Name() string                { return "panicking" }
func (panicking) Check(context.Context) error { panic(vaultToken) }

func TestCheckSurvivesAPanic(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	d := ask(t.Context(), panicking{})
	is.Equal(d.Reason, checks.ReasonBadResponse)
	is.Equal(d.Detail, "the check panicked")

	_, err := build(func() (*coffeebuddy.Function, error) { panic(vaultToken) })
	is.True(errors.Is(err, errPanic))
	is.True(!strings.Contains(err.Error(), vaultToken))
}

// A function that does not start says so by its exit code.
func TestCheckExitsByWhyItDoesNotStart(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	is.Equal((&result{}).exitCode(), exitSettings)
	is.Equal((&result{panicked: true}).exitCode(), exitNotReady)
}

// A server chooses the path that a redirect leads to; it must not draw on the terminal.
func TestCheckEscapesWhereARedirectLeads(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	s := healthy()
	s.ory = func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health/ready" {
			w.Header().Set("Location", "/%1b[2J%0a%0aready")
			w.WriteHeader(http.StatusFound)
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	code, out, _ := runCheck(t, s, nil)
	is.Equal(code, 1)
	is.True(!strings.Contains(out, "\x1b"))
	is.True(strings.HasSuffix(out, "\nnot ready\n"))
	is.True(!strings.Contains(out, "\nready"))
}

// Whoever sets a variable must not draw on the terminal of whoever looks.
func TestCheckEscapesVariables(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	_, out, _ := runCheck(t, healthy(), nil, "VAULT_TOKEN_FILE=/a\x1b[2J\nready", "COFFEEBUDDY_\x1b[2J=1")
	is.True(!strings.Contains(out, "\x1b"))
	is.True(!strings.Contains(out, "\nready"))
}

func TestCheckShowsNoQueryOfTheSink(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	code, out, _ := runCheck(t, healthy(), nil, "K_SINK=http://127.0.0.1:1/path?key=canary")
	is.Equal(code, 0)
	is.True(strings.Contains(out, "http://127.0.0.1:1/path?[redacted]"))
	is.True(!strings.Contains(out, "canary"))
}

func TestCheckShowsWhoSignedACertificate(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	private := httptest.NewTLSServer(healthy().vault)
	t.Cleanup(private.Close)
	authority := filepath.Join(t.TempDir(), "ca.pem")
	is.NoErr(os.WriteFile(authority, pemOf(private.Certificate().Raw), 0o600))
	code, out, _ := runCheck(t, healthy(), nil, "VAULT_ADDR="+private.URL, "VAULT_CACERT="+authority)
	is.Equal(code, 0)
	is.True(strings.Contains(out, `TLS 1.3, certificate by "O=Acme Co"`))
}

func TestCheckJudgesSettings(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	code, out, _ := runCheck(t, healthy(), nil, "COFFEEBUDDY_TYPO=1", "VAULT_SKIP_VERIFY=1")
	is.Equal(code, 0) // what means nothing does no harm
	is.True(regexp.MustCompile(`COFFEEBUDDY_TYPO +unknown`).MatchString(out))
	is.True(regexp.MustCompile(`VAULT_SKIP_VERIFY +unknown`).MatchString(out))

	code, out, _ = runCheck(t, healthy(), nil, "PORT=many-ports", "COFFEEBUDDY_CHECK_TTL=soon")
	is.Equal(code, 2)
	is.True(regexp.MustCompile(`PORT +wrong +must be`).MatchString(out))
	is.True(regexp.MustCompile(`COFFEEBUDDY_CHECK_TTL +wrong +must be`).MatchString(out))
	is.True(!strings.Contains(out, "many-ports") && !strings.Contains(out, "soon")) // no value that is wrong
	is.True(!strings.Contains(out, "vault:"))                                       // the function would not start

	code, out, _ = runArgs(t, []string{"check"})
	is.Equal(code, 2)
	is.True(regexp.MustCompile(`VAULT_ADDR +wrong +is not set`).MatchString(out))
	is.True(strings.Contains(out, "\nory: misconfigured ("))
}

func TestCheckInJSON(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	s := healthy()
	s.vault = sealed
	code, out, errs := runCheck(t, s, []string{"-o", "json"})
	is.Equal(code, 1)
	is.Equal(errs, "")
	var found result
	is.NoErr(json.Unmarshal([]byte(out), &found))
	is.Equal(found.Ready, false)
	is.Equal(len(found.Dependencies), 2)
	documented, err := os.ReadFile("../docs/operations.md")
	is.NoErr(err)
	for _, shape := range []reflect.Type{reflect.TypeFor[result](), reflect.TypeFor[variable](), reflect.TypeFor[dependency](), reflect.TypeFor[request]()} {
		for field := range shape.Fields() {
			if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "" {
				is.True(bytes.Contains(documented, []byte("`"+name+"`"))) // each field is in the documentation
			}
		}
	}
	for _, d := range found.Dependencies {
		is.Equal(d.Requests[0].Status, http.StatusOK)
		if d.Name == "vault" {
			is.Equal(d.Reason, checks.ReasonSealed)
			is.Equal(d.Requests[0].Path, "/v1/sys/health")
		}
	}
}

func TestUnknownArguments(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"serve"}, {"-h"}, {"check", "now"}, {"check", "-o", "yaml"}, {"check", "-v"}, {""}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			is := is.New(t)
			code, out, errs := runArgs(t, args)
			is.Equal(code, 2)
			is.Equal(out, "")
			is.Equal(errs, usage+"\n")
		})
	}
}

// The words of function check and those of the documentation are the same.
func TestAdviceIsThatOfTheDocumentation(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	docs, err := os.ReadFile("../docs/operations.md")
	is.NoErr(err)
	plain := strings.ReplaceAll(regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`).ReplaceAllString(string(docs), "$1"), "`", "")
	for _, reason := range checks.Reasons() {
		row := regexp.MustCompile(`(?m)^\| [a-z_, ]*\b` + string(reason) + `\b[a-z_, ]* \| (.*) \|$`).FindStringSubmatch(plain)
		is.True(row != nil) // the table has the reason
		is.Equal(advice(reason), row[1])
	}
}

func pemOf(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
