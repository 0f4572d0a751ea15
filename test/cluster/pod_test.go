package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/matryer/is"
)

// inspectPod looks at the process from the node, which must be this machine: the image has no shell to look from inside.
func inspectPod(t *testing.T, s *story) {
	is := is.New(t)
	uid := strings.TrimSpace(kubectl(t, "get", "pod", onlyPod(t).Metadata.Name, "-o", "jsonpath={.metadata.uid}"))
	process, err := processOf(uid, "/ko-app/function")
	if err != nil {
		t.Skipf("the node's processes cannot be seen from here: %v", err)
	}
	status, err := os.ReadFile(filepath.Join(process, "status"))
	is.NoErr(err)
	is.Equal(field(string(status), "Uid:"), []string{"65532", "65532", "65532", "65532"})
	is.Equal(field(string(status), "Gid:"), []string{"65532", "65532", "65532", "65532"})
	is.Equal(field(string(status), "CapEff:"), []string{"0000000000000000"})
	is.Equal(field(string(status), "CapBnd:"), []string{"0000000000000000"})
	is.Equal(field(string(status), "NoNewPrivs:"), []string{"1"})

	mounts, err := os.ReadFile(filepath.Join(process, "mountinfo"))
	is.NoErr(err)
	root, token := "", false
	for line := range strings.SplitSeq(string(mounts), "\n") {
		if f := strings.Fields(line); len(f) > 5 {
			if f[4] == "/" {
				root = f[5]
			}
			token = token || strings.Contains(f[4], "serviceaccount")
		}
	}
	is.Equal(strings.Split(root, ",")[0], "ro")
	is.True(!token) // nothing of Kubernetes' to steal
}

// processOf returns the folder under /proc of a program in a pod.
func processOf(podUID, program string) (string, error) {
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return "", err
	}
	for _, p := range processes {
		// A process may end while it is looked at: it is none of ours then.
		executable, _ := os.Readlink(filepath.Join(p, "exe"))
		cgroup, _ := os.ReadFile(filepath.Join(p, "cgroup"))
		if executable == program && strings.Contains(strings.ReplaceAll(string(cgroup), "_", "-"), podUID) {
			return p, nil
		}
	}
	return "", fmt.Errorf("no process %s of pod %s", program, podUID)
}

// field returns the values of a line of /proc/PID/status.
func field(status, name string) []string {
	_, after, _ := strings.Cut(status, "\n"+name)
	line, _, _ := strings.Cut(after, "\n")
	return strings.Fields(line)
}
