package kong

import (
	"bytes"
	"fmt"

	"gopkg.in/yaml.v3"
)

// A config is what a Kong holds of this project. Only the keys that are used here are
// known, so that another one is a decision and not a slip. A pointer is a key whose
// default is not Go's zero.
type config struct {
	FormatVersion yaml.Node  `yaml:"_format_version"`
	Services      []service  `yaml:"services"`
	Routes        []route    `yaml:"routes"` // without a service
	Upstreams     []upstream `yaml:"upstreams"`
	Plugins       []plugin   `yaml:"plugins"` // global ones

	text string // as it was written
}

type service struct {
	Name           string   `yaml:"name"`
	Host           string   `yaml:"host"`
	Port           *int     `yaml:"port"`
	Protocol       string   `yaml:"protocol"`
	ConnectTimeout *int     `yaml:"connect_timeout"` // milliseconds, as the other two
	WriteTimeout   *int     `yaml:"write_timeout"`
	ReadTimeout    *int     `yaml:"read_timeout"`
	Retries        *int     `yaml:"retries"`
	Routes         []route  `yaml:"routes"`
	Plugins        []plugin `yaml:"plugins"`
	Tags           []string `yaml:"tags"`
}

type route struct {
	Name                    string   `yaml:"name"`
	Hosts                   []string `yaml:"hosts"`
	Protocols               []string `yaml:"protocols"`
	HTTPSRedirectStatusCode *int     `yaml:"https_redirect_status_code"`
	Methods                 []string `yaml:"methods"`
	Paths                   []string `yaml:"paths"`
	StripPath               *bool    `yaml:"strip_path"`
	PreserveHost            bool     `yaml:"preserve_host"`
	RequestBuffering        *bool    `yaml:"request_buffering"`
	Plugins                 []plugin `yaml:"plugins"`
	Tags                    []string `yaml:"tags"`
}

type plugin struct {
	Name   string         `yaml:"name"`
	Config map[string]any `yaml:"config"`
	Tags   []string       `yaml:"tags"`
}

type upstream struct {
	Name         string         `yaml:"name"`
	HostHeader   string         `yaml:"host_header"`
	Healthchecks map[string]any `yaml:"healthchecks"`
	Targets      []target       `yaml:"targets"`
	Tags         []string       `yaml:"tags"`
}

type target struct {
	Target string   `yaml:"target"`
	Tags   []string `yaml:"tags"`
}

// Kong's defaults for a key that is missing.
const (
	defaultTimeout  = 60000
	defaultRetries  = 5
	defaultPort     = 80
	defaultRedirect = 426
)

// or returns what p points to, or a default.
func or[T any](p *T, missing T) T {
	if p == nil {
		return missing
	}
	return *p
}

// decode reads kong.yaml. A key that is not known, or there twice, is an error.
func decode(text string) (*config, error) {
	decoder := yaml.NewDecoder(bytes.NewReader([]byte(text)))
	decoder.KnownFields(true)
	c := config{text: text}
	if err := decoder.Decode(&c); err != nil {
		return nil, fmt.Errorf("decode: %w", err)
	}
	return &c, nil
}

// A way is a route to a service with what holds for it: of two plugins of one name,
// the route's own.
type way struct {
	service service
	route   route
	plugins map[string]plugin
}

// ways returns the routes that have a service.
func (c *config) ways() []way {
	var ways []way
	for _, s := range c.Services {
		for _, r := range s.Routes {
			w := way{service: s, route: r, plugins: make(map[string]plugin)}
			for _, p := range append(s.Plugins, r.Plugins...) {
				w.plugins[p.Name] = p
			}
			ways = append(ways, w)
		}
	}
	return ways
}

// upstream returns the upstream of a name, or an empty one.
func (c *config) upstream(name string) upstream {
	for _, u := range c.Upstreams {
		if u.Name == name {
			return u
		}
	}
	return upstream{}
}

// texts returns the strings of a list in a plugin's configuration, such as those of
// remove.headers.
func (p plugin) texts(keys ...string) []string {
	var value any = p.Config
	for _, key := range keys {
		m, ok := value.(map[string]any)
		if !ok {
			return nil
		}
		value = m[key]
	}
	list, _ := value.([]any)
	var texts []string
	for _, item := range list {
		texts = append(texts, fmt.Sprint(item))
	}
	return texts
}
