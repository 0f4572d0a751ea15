package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// findPython returns an interpreter that the FastAPI service can run on, with the versions of what it needs, or why there is none. The
// system's own comes second, for who has another one before it on the PATH.
func findPython(ctx context.Context) (path string, versions []version, err error) {
	var errs []error
	for _, path := range []string{"python3", "/usr/bin/python3"} {
		versions, err := pythonVersions(ctx, path)
		if err == nil {
			return path, versions, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", path, err))
	}
	return "", nil, fmt.Errorf("%w (on Debian: apt-get install --no-install-recommends python3-fastapi python3-uvicorn python3-prometheus-client "+
		"python3-httpx python3-uvloop python3-httptools)", errors.Join(errs...))
}

func pythonVersions(ctx context.Context, path string) (versions []version, err error) {
	const ask = `
import platform
from importlib.metadata import version
import fastapi, httptools, httpx, prometheus_client, uvicorn, uvloop
print("Python", platform.python_version())
for name in ("fastapi", "uvicorn", "uvloop", "httptools", "httpx", "prometheus_client"):
    print(name, version(name))
`
	var failure bytes.Buffer
	command := exec.CommandContext(ctx, path, "-c", ask)
	command.Stderr = &failure
	out, err := command.Output()
	if err != nil {
		lines := strings.Split(strings.TrimSpace(failure.String()), "\n")
		return nil, fmt.Errorf("%w: %s", err, lines[len(lines)-1])
	}
	for line := range strings.Lines(string(out)) {
		name, number, _ := strings.Cut(strings.TrimSpace(line), " ")
		versions = append(versions, version{name, number})
	}
	return versions, nil
}
