package vault

import (
	"context"
	"encoding/json"
	"net/http"

	"coffeebuddy/internal/fault"

	"github.com/hashicorp/vault/api"
)

// Health checks sys/health, without a token or namespace: Vault must be initialized, unsealed and
// not inactive. A standby or a performance standby is healthy: it forwards requests.
func (c *Client) Health(ctx context.Context) error {
	clients, err := c.clients()
	if err != nil {
		return err
	}
	return c.heal(health(ctx, clients.anonymous))
}

// health judges by the JSON, whatever the status. The query asks Vault for 200 in every state, so
// that a proxy passes the JSON on; but a proxy may also drop the query.
//
// The order is that of Vault's own handler.
func health(ctx context.Context, client *api.Client) error {
	const ok = "200"
	resp, err := read(ctx, client, "sys/health", map[string][]string{
		"standbyok": {"true"}, "perfstandbyok": {"true"},
		"uninitcode": {ok}, "sealedcode": {ok}, "standbycode": {ok}, "performancestandbycode": {ok},
		"drsecondarycode": {ok}, "removedcode": {ok}, "haunhealthycode": {ok},
	})
	if err != nil {
		return err
	}
	var health struct {
		Initialized *bool  `json:"initialized"`
		Sealed      *bool  `json:"sealed"`
		Removed     bool   `json:"removed_from_cluster"`
		HAHealthy   *bool  `json:"ha_connection_healthy"`
		DRMode      string `json:"replication_dr_mode"`
	}
	if json.Unmarshal(resp.body, &health) != nil || health.Initialized == nil || health.Sealed == nil {
		if resp.status != http.StatusOK {
			return fault.Status(resp.status)
		}
		return fault.New(fault.BadResponse, "sys/health did not answer as Vault does")
	}
	switch {
	case !*health.Initialized:
		return fault.New(fault.Uninitialized, "Vault is not initialized")
	case health.Removed:
		return fault.New(fault.Inactive, "this Vault node was removed from its cluster")
	case *health.Sealed:
		return fault.New(fault.Sealed, "Vault is sealed")
	case health.HAHealthy != nil && !*health.HAHealthy:
		return fault.New(fault.Inactive, "this Vault node has lost its active node")
	case health.DRMode == "secondary":
		return fault.New(fault.Inactive, "this Vault is a disaster recovery secondary")
	}
	return nil
}
