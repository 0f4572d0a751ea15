// Package processes is what Linux tells of processes. Elsewhere there is nothing to tell.
package processes

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Family returns the process and those that it has started, and so on.
func Family(pid int) []int {
	pids := []int{pid}
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // the pattern is a good one
	for _, list := range lists {
		children, err := os.ReadFile(list)
		if err != nil {
			continue // it has just ended
		}
		for child := range strings.FieldsSeq(string(children)) {
			if n, err := strconv.Atoi(child); err == nil {
				pids = append(pids, Family(n)...)
			}
		}
	}
	return pids
}

// Time is the processor time that processes have used so far.
func Time(pids ...int) time.Duration {
	const tick = 10 * time.Millisecond // Linux' USER_HZ
	var ticks int64
	for _, pid := range pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		// After the name, which is in brackets and may hold any character: utime and stime are the 12th and 13th.
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) < 13 {
			continue
		}
		for _, field := range fields[11:13] {
			n, _ := strconv.ParseInt(field, 10, 64) // the kernel writes numbers
			ticks += n
		}
	}
	return time.Duration(ticks) * tick
}
