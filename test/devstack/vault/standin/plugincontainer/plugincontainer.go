// Package plugincontainer stands in for github.com/hashicorp/go-secure-stdlib/plugincontainer, which runs external plugins in
// containers. The devstack's Vault has no external plugins, and the original links Docker's client.
package plugincontainer

import (
	"errors"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin/runner"
	"os/exec"
)

// Config describes the container of a plugin.
type Config struct {
	Image, Tag, SHA256    string
	Entrypoint, Args, Env []string
	Labels                map[string]string
	GroupAdd              int
	Rootless, CapIPCLock  bool
	Runtime, CgroupParent string
	NanoCpus, Memory      int64
}

// NewContainerRunner always fails.
func (*Config) NewContainerRunner(hclog.Logger, *exec.Cmd, string) (runner.Runner, error) {
	return nil, errors.New("this Vault is built without plugincontainer: it cannot run plugins in containers")
}
