-- The tables that the catalog derives from the loaded ones: what many queries count is counted once.
-- `verify` makes them again and compares.

-- Posts by stage and outcome, from the board to the shards.
CREATE TABLE funnel AS
SELECT position, stage, outcome, posts FROM (
    SELECT 1 AS position, 'listing' AS stage, 'kept' AS outcome, count(*) AS posts FROM posts
    UNION ALL
    SELECT s.position, d.stage, coalesce(d.reason, 'kept'), count(DISTINCT d.post_id)
    FROM decisions AS d JOIN stages AS s USING (stage) GROUP BY ALL
    UNION ALL
    SELECT 9, 'shards', 'kept', count(*) FROM samples
)
ORDER BY position, outcome <> 'kept', posts DESC, outcome;

-- The groups of several posts: how many, which was kept, and how they were joined. A group is named
-- after its smallest post id, so that a post with another id than its group shows such a group.
CREATE TABLE duplicate_groups AS
SELECT group_id, count(*) AS posts, max(post_id) FILTER (representative) AS kept,
       string_agg(DISTINCT link, ' ' ORDER BY link) AS joined_by, max(distance) AS farthest
FROM groups
WHERE group_id IN (SELECT group_id FROM groups WHERE post_id <> group_id)
GROUP BY group_id
ORDER BY group_id;

-- One row per label: posts listed and kept, samples, samples of each split and on white.
CREATE TABLE label_counts AS
SELECT
    l.leaf, l.label, l.base, l.copyright, p.listed, p.kept, l.available,
    count(s.post_id) AS samples,
    count(*) FILTER (s.split = 'train') AS train,
    count(*) FILTER (s.split = 'val') AS val,
    count(*) FILTER (s.split = 'test') AS test,
    count(*) FILTER (s.white_background) AS white_background,
    count(*) FILTER (s.white_background AND s.split = 'test') AS white_test
FROM labels AS l
LEFT JOIN personae AS p ON p.persona = l.label
LEFT JOIN samples AS s ON s.label = l.label
GROUP BY ALL
ORDER BY l.leaf;

-- Labels that a person could confuse: a form and its base, two forms of one base, and for each
-- label the label of its copyright with the most similar name.
CREATE TABLE look_alikes AS
WITH candidates AS (  -- of all pairs, those that one of the rules below can take
    SELECT a.leaf AS leaf_a, b.leaf AS leaf_b
    FROM labels AS a JOIN labels AS b ON a.base = b.base AND a.label < b.label
    UNION
    SELECT a.leaf, b.leaf FROM labels AS a JOIN labels AS b ON a.label = b.base AND a.label < b.label
    UNION
    SELECT a.leaf, b.leaf FROM labels AS a JOIN labels AS b ON b.label = a.base AND a.label < b.label
    UNION
    SELECT a.leaf, b.leaf
    FROM labels AS a JOIN labels AS b
    ON a.copyright IS NOT DISTINCT FROM b.copyright AND a.label < b.label
),
pairs AS (
    SELECT
        a.label AS label_a, b.label AS label_b, coalesce(a.copyright, b.copyright) AS copyright,
        a.base, a.base = b.base AS one_base,
        b.label = a.base OR a.label = b.base AS is_base,
        a.copyright IS NOT DISTINCT FROM b.copyright AS one_copyright,
        round(jaro_winkler_similarity(a.label, b.label), 3) AS name_similarity
    FROM candidates JOIN labels AS a ON a.leaf = leaf_a JOIN labels AS b ON b.leaf = leaf_b
),
both_ways AS (
    SELECT label_a AS label, label_b AS other, name_similarity FROM pairs WHERE one_copyright
    UNION ALL
    SELECT label_b, label_a, name_similarity FROM pairs WHERE one_copyright
),
nearest AS (
    SELECT label, other FROM both_ways
    QUALIFY row_number() OVER (PARTITION BY label ORDER BY name_similarity DESC, other) = 1
)
SELECT
    label_a, label_b,
    CASE WHEN is_base THEN 'form_and_base' WHEN one_base THEN 'one_base' ELSE 'near_name' END AS kind,
    copyright, name_similarity
FROM pairs
WHERE is_base OR one_base
   OR (label_a, label_b) IN (SELECT (least(label, other), greatest(label, other)) FROM nearest)
ORDER BY kind, name_similarity DESC, label_a, label_b;

-- The same or nearly the same image in two splits. A drawn split is broken unless this table is
-- empty.
-- A given split (`split.mode`) is taken as it is, and the table lists what it leaks: each post with the
-- first post of each other split. All pairs of thousands of copies would not fit on a disk.
CREATE TABLE leaks AS
WITH placed AS NOT MATERIALIZED (
    SELECT s.post_id, s.split, s.group_id, m.sha256, m.image_sha256
    FROM splits AS s LEFT JOIN measures AS m USING (post_id)
),
keyed AS NOT MATERIALIZED (
    SELECT 'one_group' AS kind, group_id::VARCHAR AS key, post_id, split FROM placed
    UNION ALL
    SELECT 'one_file', sha256, post_id, split FROM placed
    UNION ALL
    SELECT 'one_picture', image_sha256, post_id, split FROM placed
),
crossing AS (  -- by hash, which needs less memory; the exact keys are joined below
    SELECT hash(kind, key) AS hashed FROM keyed GROUP BY hashed HAVING min(split) < max(split)
),
shared AS (
    FROM keyed SEMI JOIN crossing ON hash(kind, key) = hashed
),
firsts AS (
    SELECT kind, key, split, min(post_id) AS post_id FROM shared GROUP BY kind, key, split
),
apart AS (
    SELECT DISTINCT s.kind, if(s.split < f.split, s.post_id, f.post_id) AS post_a,
           if(s.split < f.split, f.post_id, s.post_id) AS post_b
    FROM shared AS s JOIN firsts AS f USING (kind, key) WHERE s.split <> f.split
    UNION ALL
    SELECT 'linked_' || l.link, l.post_a, l.post_b
    FROM links AS l
    JOIN placed AS a ON a.post_id = l.post_a
    JOIN placed AS b ON b.post_id = l.post_b
    WHERE a.split <> b.split
)
SELECT l.kind, l.post_a, l.post_b, a.split AS split_a, b.split AS split_b
FROM apart AS l
JOIN placed AS a ON a.post_id = l.post_a
JOIN placed AS b ON b.post_id = l.post_b
ORDER BY ALL;
