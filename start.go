package coffeebuddy

import (
	"os"
	"strconv"
	"strings"
	"time"
)

// processStart returns when the process started, to a hundredth of a second, as
// Linux has it: what ran before main counts towards a cold start. Where that
// cannot be read it returns the time of the call.
func processStart() time.Time {
	now := time.Now()
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return now
	}
	uptime, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return now
	}
	// The second field is the program's name in brackets and may hold anything;
	// the start time is the 20th field after it, in ticks since boot.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	up, _, _ := strings.Cut(string(uptime), " ")
	if len(fields) < 20 {
		return now
	}
	const ticksPerSecond = 100 // USER_HZ, the same on every Linux that Go runs on
	ticks, err := strconv.ParseFloat(fields[19], 64)
	if err != nil {
		return now
	}
	seconds, err := strconv.ParseFloat(up, 64)
	if err != nil {
		return now
	}
	age := time.Duration((seconds - ticks/ticksPerSecond) * float64(time.Second))
	if age < 0 { // a container with an uptime of its own
		return now
	}
	return now.Add(-age)
}
