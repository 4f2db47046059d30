package engine

import (
	"crypto/rand"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// The program that runs the engine.
//
//go:embed clickhouse_child.py
var clickHouseChild []byte

// The engine's configuration: loopback only, and sized to idle beside a server on a small machine. A pool of few
// threads has few free entries, so MergeTree's thresholds on free entries must come down with it, or the engine
// refuses every table. Only crashes are logged: at every lower level the log holds the text of queries, and with it the
// data of people.
const clickHouseConfig = `<clickhouse>
  <log-level>fatal</log-level>
  <logger><console>1</console></logger>
  <listen_host>127.0.0.1</listen_host>
  <tcp_port>%d</tcp_port>
  <http_port>%d</http_port>
  <users_config>users.xml</users_config>
  <max_server_memory_usage>%d</max_server_memory_usage>
  <mark_cache_size>33554432</mark_cache_size>
  <index_mark_cache_size>8388608</index_mark_cache_size>
  <primary_index_cache_size>33554432</primary_index_cache_size>
  <uncompressed_cache_size>0</uncompressed_cache_size>
  <mmap_cache_size>64</mmap_cache_size>
  <compiled_expression_cache_size>8388608</compiled_expression_cache_size>
  <background_pool_size>2</background_pool_size>
  <background_merges_mutations_concurrency_ratio>2</background_merges_mutations_concurrency_ratio>
  <background_move_pool_size>1</background_move_pool_size>
  <background_fetches_pool_size>1</background_fetches_pool_size>
  <background_common_pool_size>2</background_common_pool_size>
  <background_schedule_pool_size>4</background_schedule_pool_size>
  <memory_worker_period_ms>500</memory_worker_period_ms>
  <asynchronous_metrics_update_period_s>30</asynchronous_metrics_update_period_s>
  <merge_tree>
    <number_of_free_entries_in_pool_to_lower_max_size_of_merge>2</number_of_free_entries_in_pool_to_lower_max_size_of_merge>
    <number_of_free_entries_in_pool_to_execute_mutation>2</number_of_free_entries_in_pool_to_execute_mutation>
    <number_of_free_entries_in_pool_to_execute_optimize_entire_partition>2</number_of_free_entries_in_pool_to_execute_optimize_entire_partition>
  </merge_tree>
</clickhouse>
`

// The engine's users. Its own session is "default" without a password, which must stay able to open the listeners and
// to wait, and may do nothing else, with little memory: every user of this machine can be it. The application's user may do everything inside the engine and reach nothing
// outside of it: no files, no URLs, no other servers.
const clickHouseUsers = `<clickhouse>
  <profiles>
    <default><implicit_select>0</implicit_select></default>
    <waiting>
      <implicit_select>0</implicit_select>
      <max_memory_usage>67108864</max_memory_usage>
      <constraints><max_memory_usage><const/></max_memory_usage></constraints>
    </waiting>
  </profiles>
  <quotas><default/></quotas>
  <users>
    <default>
      <password></password>
      <networks><ip>127.0.0.1</ip></networks>
      <profile>waiting</profile>
      <quota>default</quota>
      <grants>
        <query>GRANT SYSTEM LISTEN ON *.*</query>
        <query>GRANT SELECT ON system.numbers</query>
      </grants>
    </default>
    <%[1]s>
      <password_sha256_hex>%[2]s</password_sha256_hex>
      <networks><ip>127.0.0.1</ip></networks>
      <profile>default</profile>
      <quota>default</quota>
      <grants>
        <query>GRANT ALL ON *.*</query>
        <query>REVOKE SOURCES ON *.*</query>
      </grants>
    </%[1]s>
  </users>
</clickhouse>
`

const clickHouseUser = "tributary"

// writeClickHouseFiles writes what the child reads when it starts.
func writeClickHouseFiles(dir, password string, tcp, http int, memory int64) error {
	hash := sha256.Sum256([]byte(password))
	files := map[string][]byte{
		"child.py":   clickHouseChild,
		"config.xml": fmt.Appendf(nil, clickHouseConfig, tcp, http, memory),
		"users.xml":  fmt.Appendf(nil, clickHouseUsers, clickHouseUser, hex.EncodeToString(hash[:])),
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return fmt.Errorf("write the engine's configuration: %w", err)
		}
	}
	return nil
}

// keepPassword returns the password kept in the folder, making one if there is none.
func keepPassword(dir string) (string, error) {
	path := filepath.Join(dir, "password")
	text, err := os.ReadFile(path)
	if err == nil {
		if password := strings.TrimSpace(string(text)); password != "" {
			return password, nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the engine's password: %w", err)
	}
	password := strings.ToLower(rand.Text())
	if err := os.WriteFile(path+".new", []byte(password+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("write the engine's password: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return "", fmt.Errorf("write the engine's password: %w", err)
	}
	return password, nil
}
