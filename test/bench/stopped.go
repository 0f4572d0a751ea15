package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// fullPipe returns a pipe that is full and that nobody reads, for a log to go to.
func (b *bench) fullPipe() (path string, err error) {
	path = filepath.Join(b.dir, "full")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		return "", fmt.Errorf("make a pipe: %w", err)
	}
	// For reading and writing: a pipe without a reader would be closed, which is not what a log's reader that hangs looks like.
	pipe, err := os.OpenFile(path, os.O_RDWR|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	b.closers = append(b.closers, pipe.Close)
	if err := pipe.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		return "", err
	}
	for {
		if _, err := pipe.Write(make([]byte, 4096)); errors.Is(err, os.ErrDeadlineExceeded) {
			return path, nil
		} else if err != nil {
			return "", err
		}
	}
}

// dropped returns how many log lines the function has dropped.
func dropped(s *server) (int, error) {
	body, err := askOnce(s.address, get("/metrics", 200))
	if err != nil {
		return 0, err
	}
	_, after, ok := strings.Cut(string(body), "\ncoffeebuddy_log_lines_dropped_total ")
	if !ok {
		return 0, errors.New("the function does not count the log lines that it drops")
	}
	line, _, _ := strings.Cut(after, "\n")
	count, err := strconv.ParseFloat(line, 64)
	return int(count), err
}
