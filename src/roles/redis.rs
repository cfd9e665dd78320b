//! A connection to Redis, from the settings.

use std::time::Duration;

use superhero_service::{Failure, Kind, RedisArguments, Secret};
use superhero_store::redis::{Redis, RedisConfig};

/// Connects within `deadline`.
///
/// # Errors
/// [`Kind::NotReady`], naming the place.
pub(crate) async fn connect(arguments: &RedisArguments, deadline: Duration) -> Result<Redis, Failure> {
    let config = RedisConfig {
        username: arguments.redis_username.clone(),
        password: arguments.redis_password.as_ref().map(Secret::reveal).map(str::to_owned),
        ..RedisConfig::new(&arguments.redis_host, arguments.redis_port, arguments.redis_db)
    };
    Redis::connect(config, deadline).await.map_err(|error| Failure::new(Kind::NotReady, error))
}
