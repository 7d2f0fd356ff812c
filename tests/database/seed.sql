-- The schema that existing StreamAX installations were made from, as its documentation has it, defects and all; the
-- exploits in test_exploits.py are run against it too, to see that they are exploits. Run on a database as Supabase
-- prepares it, by the role it prepares for that. One change, or nothing would run: `column` is quoted.

CREATE TABLE users (
  id uuid PRIMARY KEY REFERENCES auth.users(id) ON DELETE CASCADE,
  email text UNIQUE NOT NULL,
  role text DEFAULT 'user' CHECK (role IN ('admin', 'user')),
  package_type text CHECK (package_type IN ('starter', 'creator', 'pro')),
  package_expires_at timestamptz,
  streams_allowed integer DEFAULT 0,
  streams_active integer DEFAULT 0,
  created_at timestamptz DEFAULT now()
);

CREATE TABLE stream_sessions (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  user_id uuid NOT NULL REFERENCES users(id) ON DELETE CASCADE,
  container_id text,
  rtmp_url text NOT NULL,
  video_source text NOT NULL,
  status text DEFAULT 'stopped' CHECK (status IN ('starting', 'running', 'stopping', 'stopped', 'error')),
  created_at timestamptz DEFAULT now(),
  started_at timestamptz,
  stopped_at timestamptz
);

CREATE TABLE stream_requests (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  user_id uuid NOT NULL REFERENCES users(id) ON DELETE CASCADE,
  video_source text NOT NULL,
  video_url text,
  rtmp_url text NOT NULL,
  title text NOT NULL,
  description text,
  status text DEFAULT 'pending' CHECK (status IN ('pending', 'approved', 'rejected', 'streaming', 'stopped')),
  admin_notes text,
  created_at timestamptz DEFAULT now(),
  approved_at timestamptz,
  started_at timestamptz,
  stopped_at timestamptz
);

CREATE TABLE user_activities (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  user_id uuid REFERENCES users(id) ON DELETE CASCADE,
  action text NOT NULL,
  resource text,
  metadata jsonb,
  ip text,
  user_agent text,
  timestamp timestamptz DEFAULT now(),
  created_at timestamptz DEFAULT now()
);

CREATE TABLE error_logs (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  message text NOT NULL,
  stack text,
  url text,
  line integer,
  "column" integer,
  user_agent text,
  user_id uuid REFERENCES users(id) ON DELETE SET NULL,
  timestamp timestamptz NOT NULL,
  severity text DEFAULT 'medium' CHECK (severity IN ('low', 'medium', 'high', 'critical')),
  context jsonb,
  ip text,
  created_at timestamptz DEFAULT now()
);

CREATE TABLE performance_metrics (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  name text NOT NULL,
  value numeric NOT NULL,
  unit text DEFAULT 'ms',
  timestamp timestamptz NOT NULL,
  user_id uuid REFERENCES users(id) ON DELETE SET NULL,
  page text,
  context jsonb,
  created_at timestamptz DEFAULT now()
);

CREATE TABLE backup_metadata (
  id text PRIMARY KEY,
  created_at timestamptz DEFAULT now(),
  size bigint,
  tables text[],
  status text DEFAULT 'pending' CHECK (status IN ('pending', 'completed', 'failed')),
  file_path text,
  checksum text,
  s3_bucket text,
  s3_key text
);

-- Users can read their own data
CREATE POLICY "Users can read own data"
  ON users FOR SELECT TO authenticated
  USING (auth.uid() = id);

-- Users can update their own data
CREATE POLICY "Users can update own data"
  ON users FOR UPDATE TO authenticated
  USING (auth.uid() = id);

-- Admins can read all data
CREATE POLICY "Admins can read all data"
  ON users FOR SELECT TO authenticated
  USING (
    EXISTS (
      SELECT 1 FROM users
      WHERE users.id = auth.uid()
      AND users.role = 'admin'
    )
  );

-- Users can manage their own sessions
CREATE POLICY "Users can read own sessions"
  ON stream_sessions FOR SELECT TO authenticated
  USING (user_id = auth.uid());

CREATE POLICY "Users can create own sessions"
  ON stream_sessions FOR INSERT TO authenticated
  WITH CHECK (user_id = auth.uid());

CREATE OR REPLACE FUNCTION handle_new_user()
RETURNS trigger AS $$
BEGIN
  INSERT INTO users (id, email, role, streams_allowed, streams_active)
  VALUES (NEW.id, NEW.email, 'user', 0, 0);
  RETURN NEW;
END;
$$ LANGUAGE plpgsql SECURITY DEFINER;

CREATE OR REPLACE FUNCTION increment_user_streams(user_id uuid)
RETURNS void AS $$
BEGIN
  UPDATE users 
  SET streams_active = LEAST(streams_active + 1, streams_allowed)
  WHERE id = user_id;
END;
$$ LANGUAGE plpgsql SECURITY DEFINER;

CREATE OR REPLACE FUNCTION decrement_user_streams(user_id uuid)
RETURNS void AS $$
BEGIN
  UPDATE users 
  SET streams_active = GREATEST(streams_active - 1, 0)
  WHERE id = user_id;
END;
$$ LANGUAGE plpgsql SECURITY DEFINER;

CREATE OR REPLACE FUNCTION cleanup_orphaned_streams()
RETURNS integer AS $$
DECLARE
  cleanup_count integer := 0;
BEGIN
  -- Update streams that have been "starting" for more than 5 minutes
  UPDATE stream_sessions 
  SET status = 'error'
  WHERE status = 'starting' 
    AND created_at < NOW() - INTERVAL '5 minutes';
  
  GET DIAGNOSTICS cleanup_count = ROW_COUNT;
  
  -- Reset user active stream counts
  UPDATE users 
  SET streams_active = (
    SELECT COUNT(*)
    FROM stream_sessions 
    WHERE stream_sessions.user_id = users.id 
      AND stream_sessions.status IN ('running', 'starting')
  );
  
  RETURN cleanup_count;
END;
$$ LANGUAGE plpgsql SECURITY DEFINER;

CREATE TRIGGER on_auth_user_created
  AFTER INSERT ON auth.users
  FOR EACH ROW EXECUTE FUNCTION handle_new_user();

