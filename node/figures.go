package node

// Figures are what Verify and the demo read back, each from the place that it names. A part that was not looked at is
// nil.
type Figures struct {
	Log        LogFigures         `json:"log"`
	Kafka      *KafkaFigures      `json:"kafka,omitempty"`
	Feed       *KafkaFigures      `json:"feed,omitempty"`
	Redis      *RedisFigures      `json:"redis,omitempty"`
	ClickHouse *ClickHouseFigures `json:"clickhouse,omitempty"`
}

// LogFigures are of the store.
type LogFigures struct {
	Events   uint64 `json:"events"`
	Streams  uint64 `json:"streams"`
	Position uint64 `json:"position"`
	// Verified: checksums, density, whole batches, versions, chain and index were checked and are right.
	Verified bool `json:"verified"`
}

// KafkaFigures are of the topic, or of the feed, compared with the store by the identity of events. Records of events that the log has dropped are
// not compared: Dropped counts them, Records the others.
type KafkaFigures struct {
	Records    uint64 `json:"records"`
	Dropped    uint64 `json:"dropped,omitempty"`
	Missing    uint64 `json:"missing"`
	Duplicates uint64 `json:"duplicates"`
}

// RedisFigures are of the read model in Redis.
type RedisFigures struct {
	Orders     int64 `json:"orders"`
	Shipped    int64 `json:"shipped"`
	StockCodes int64 `json:"stock_codes"`
	OnHand     int64 `json:"on_hand"`
}

// ClickHouseFigures are of the tables in ClickHouse. Amounts are exact decimals.
type ClickHouseFigures struct {
	Lines     uint64            `json:"lines"`
	Invoices  uint64            `json:"invoices"`
	Returns   uint64            `json:"returns"`
	Customers uint64            `json:"customers"`
	Net       string            `json:"net"`
	ByMonth   map[string]string `json:"by_month"`
	ByCountry map[string]string `json:"by_country"`
	ByStock   map[string]string `json:"by_stock"`
}
