package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// binaries are stripped programs, built as ko builds the function, by name.
type binaries map[string]string

// buildAll builds the function with the project's own module, and what it is compared with with this one.
func buildAll(ctx context.Context, root, dir string) (binaries, error) {
	all := make(binaries)
	build := func(name, module, pkg string) error {
		all[name] = filepath.Join(dir, name)
		command := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=auto", "-ldflags=-s -w", "-o", all[name], pkg)
		command.Dir, command.Env = module, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := command.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w: %s", name, err, out)
		}
		return nil
	}
	if err := build("function", root, "./function"); err != nil {
		return nil, err
	}
	for _, name := range []string{"bare", "receiver", "health", "sdk", "funcgo", "promhttp"} {
		if err := build(name, filepath.Join(root, "test", "bench"), "./cmd/"+name); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// versionOf returns the version of a module that a binary is built with.
func versionOf(binary, module string) (string, error) {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return "", err
	}
	for _, dependency := range info.Deps {
		if dependency.Path == module {
			return dependency.Version, nil
		}
	}
	return "", fmt.Errorf("%s is not built with %s", filepath.Base(binary), module)
}

// sizes returns how large a binary is, and the layer of an image that holds it: a tar, compressed as ko does it, for speed. Both in bytes.
func sizes(binary string) (plain, layer int, err error) {
	content, err := os.ReadFile(binary)
	if err != nil {
		return 0, 0, err
	}
	var compressed bytes.Buffer
	z, err := gzip.NewWriterLevel(&compressed, gzip.BestSpeed)
	if err != nil {
		return 0, 0, err
	}
	archive := tar.NewWriter(z)
	header := &tar.Header{Name: "/ko-app/function", Typeflag: tar.TypeReg, Mode: 0o555, Size: int64(len(content))}
	if err := archive.WriteHeader(header); err != nil {
		return 0, 0, err
	}
	if _, err := archive.Write(content); err != nil {
		return 0, 0, err
	}
	if err := archive.Close(); err != nil {
		return 0, 0, err
	}
	if err := z.Close(); err != nil {
		return 0, 0, err
	}
	return len(content), compressed.Len(), nil
}
