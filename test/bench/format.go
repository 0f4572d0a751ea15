package main

import (
	"fmt"
	"strconv"
)

// figure formats a number with as many digits as mean something.
func figure(v float64) string {
	switch {
	case v >= 1000:
		return thousands(v)
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case v > 0 && v < 0.1:
		return strconv.FormatFloat(v, 'g', 2, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

// thousands formats a whole number of at most three digits that count, as 41,700.
func thousands(v float64) string {
	n, unit := int64(v+0.5), int64(1)
	for n/unit >= 10_000 {
		unit *= 10
	}
	n = (n + unit/2) / unit * unit
	if n < 1000 {
		return strconv.FormatInt(n, 10)
	}
	if n < 1_000_000 {
		return fmt.Sprintf("%d,%03d", n/1000, n%1000)
	}
	return fmt.Sprintf("%d,%03d,%03d", n/1_000_000, n/1000%1000, n%1000)
}

// counted formats allocations, where they were counted.
func counted(allocations float64) string {
	if allocations < 0 {
		return ""
	}
	return strconv.FormatFloat(allocations, 'f', 1, 64)
}

// size formats bytes in MB, where there are any.
func size(bytes int) string {
	if bytes == 0 {
		return ""
	}
	return strconv.FormatFloat(float64(bytes)/1e6, 'f', 1, 64)
}
