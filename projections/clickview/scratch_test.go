package clickview

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/tributary-es/tributary/internal/testenv"
)

func TestScratch(t *testing.T) {
	srv := testenv.ClickHouse(t)
	conn, err := clickhouse.Open(&clickhouse.Options{Addr: []string{srv.TCPAddr()}, Auth: clickhouse.Auth{Username: srv.User(), Password: srv.Password()}, Compression: &clickhouse.Compression{Method: clickhouse.CompressionLZ4}})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	ex := func(q string) {
		if err := conn.Exec(ctx, q); err != nil {
			fmt.Println("EXEC", q, err)
		}
	}
	q := func(q string) {
		rows, err := conn.Query(ctx, q)
		if err != nil {
			fmt.Println("QUERY", q, err)
			return
		}
		defer rows.Close()
		for rows.Next() {
			var s string
			if err := rows.Scan(&s); err != nil {
				fmt.Println(err)
			}
			fmt.Println("  ", s)
		}
		if rows.Err() != nil {
			fmt.Println(q, rows.Err())
		}
	}
	for _, db := range []string{"a", "b"} {
		ex("create database " + db)
		ex("create table " + db + ".t (p UInt32, x Decimal(38,9), s LowCardinality(String)) engine MergeTree order by x partition by p settings non_replicated_deduplication_window=1000")
		ex("create table " + db + ".s (p UInt32, x Decimal(38,9)) engine SummingMergeTree order by p settings non_replicated_deduplication_window=1000")
		ex("create table " + db + ".gate (n UInt8) engine MergeTree order by n")
		ex("insert into " + db + ".gate values (1)")
		ex("create materialized view " + db + ".mv to " + db + ".s as select p, sum(x) as x from " + db + ".t where throwIf((select count() from " + db + ".gate) = 0) = 0 group by p")
	}
	ins := func(db, token string, rows int) {
		c := clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"insert_deduplicate": 1, "insert_deduplication_token": token, "deduplicate_blocks_in_dependent_materialized_views": 1}))
		b, err := conn.PrepareBatch(c, "insert into "+db+".t")
		if err != nil {
			fmt.Println("PREP", err)
			return
		}
		for i := 0; i < rows; i++ {
			b.Append(uint32(i%2), "1.5", "foo")
		}
		start := time.Now()
		fmt.Println("send", b.Send(), time.Since(start))
	}
	show := func(db string) {
		q("select concat('t=',toString(count())) from " + db + ".t")
		q("select concat('s=',toString(sum(x)),' rows ',toString(count())) from " + db + ".s")
	}
	ins("a", "k1", 10)
	ins("a", "k1", 10)
	show("a")
	ex("truncate table a.gate")
	ins("a", "k2", 10)
	show("a")
	ex("insert into a.gate values (1)")
	ins("a", "k2", 10)
	show("a")
	ins("a", "k2", 10)
	show("a")
	// identical content different tokens
	ins("a", "k3", 10)
	show("a")
	// exchange
	ins("b", "k1", 4)
	ex("exchange tables a.t and b.t")
	ex("exchange tables a.s and b.s")
	fmt.Println("after exchange")
	show("a")
	ins("a", "k9", 2)
	show("a")
	show("b")
	srv.Kill()
	if err := srv.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	ins("a", "k9", 2)
	ins("a", "k9", 2)
	show("a")
	ins("a", "k10", 2)
	show("a")
	show("b")
	q("select concat(name, ' ', engine, ' ', toString(total_rows)) from system.tables where database='a'")
	q("select concat(toString(enabled), version()) from (select 1 as enabled)")
	q("select concat(name,'=',value) from system.settings where name like '%dedup%'")
	q("select concat(name,'=',value) from system.merge_tree_settings where name like '%dedup%'")
	start := time.Now()
	for i := 0; i < 100; i++ {
		var n uint64
		conn.QueryRow(ctx, "select count() from a.t").Scan(&n)
	}
	fmt.Println("query", time.Since(start)/100)
	start = time.Now()
	for i := 0; i < 100; i++ {
		rows, _ := conn.Query(ctx, "select name, total_rows from system.tables where database='a'")
		for rows.Next() {
		}
		rows.Close()
	}
	fmt.Println("query tables", time.Since(start)/100)
	for i := 0; i < 5; i++ {
		ins("a", fmt.Sprint("kk", i), 100)
	}
	q("select concat(toString(count()), ' dropdb') from a.t")
	start = time.Now()
	ex("drop database b sync")
	fmt.Println("drop", time.Since(start))
	q("select count() from b.t")
	q("select count() from a.nope")
}
